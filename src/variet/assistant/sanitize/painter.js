// What of a page can be seen, by what is painted of it. Each function runs in the page, whose own scripts never run.
//
// A page may name its elements as methods of the document and of forms are named (`<img name="body">`): methods and
// properties are taken from prototypes for that reason.
({
  setUp() {
    const method = (kind, name) => Function.prototype.call.bind(kind.prototype[name]);
    const property = (kind, name) =>
      Function.prototype.call.bind(Object.getOwnPropertyDescriptor(kind.prototype, name).get);
    const walkerOf = method(Document, 'createTreeWalker');
    const rangeOf = method(Document, 'createRange');
    const attributeOf = method(Element, 'getAttribute');
    const rectsOf = method(Range, 'getClientRects');
    const rootOf = property(Document, 'documentElement');
    const bodyOf = property(Document, 'body');
    const parentOf = property(Node, 'parentNode');
    const nameOf = property(Element, 'localName');
    const styleOf = property(HTMLElement, 'style');
    const motionsOf = method(Document, 'getAnimations');
    const fontsOf = property(Document, 'fonts');
    const sheetsOf = property(Document, 'adoptedStyleSheets');
    const root = rootOf(document);
    const NEVER = new Set(['script', 'style', 'template', 'noscript', 'head', 'iframe', 'frame', 'object', 'embed',
      'applet', 'audio', 'video', 'canvas', 'svg', 'math', 'map', 'area', 'link', 'meta', 'base', 'param', 'source',
      'track', 'datalist', 'noframes', 'noembed', 'portal', 'input', 'select', 'textarea', 'option', 'progress',
      'meter', 'title']);
    const MOST_LETTERS = 150000, MOST_WORDS = 40000, MOST_CHARS = 24, MOST_LAYERS = 8;

    const computed = new Map();  // of elements that hold text
    const look = element => {
      if (!computed.has(element)) {
        const style = getComputedStyle(element);
        computed.set(element, {
          masked: style.webkitTextSecurity !== 'none' || style.display === 'none' || style.visibility !== 'visible',
          families: style.fontFamily.toLowerCase(),
          clips: false,
        });
      }
      return computed.get(element);
    };

    // What moves stands as it does at a moment that no page can know, a few seconds after it was opened.
    const moment = 3000 + crypto.getRandomValues(new Uint16Array(1))[0] / 10;
    for (const motion of motionsOf(document)) {
      if (motion.playState === 'paused') continue;
      motion.pause();
      motion.currentTime = moment;
    }

    const words = [];  // {node, start, end, letters, votes, overlay}
    const clipping = new Set();  // elements whose background is painted in the shape of their letters
    const texts = [];
    const walker = walkerOf(document, root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    let node = walker.currentNode;
    const after = () => {  // passes over all that is in this node
      while (node) {
        if (walker.nextSibling()) return walker.currentNode;
        if (!walker.parentNode()) return null;
      }
      return null;
    };
    let letters = 0;
    while (node) {
      if (node instanceof Element) {
        if (NEVER.has(nameOf(node))) { node = after(); continue; }
        const style = getComputedStyle(node);
        if (style.contentVisibility === 'auto' && node instanceof HTMLElement) {
          styleOf(node).setProperty('content-visibility', 'visible', 'important');
        }
        if (style.webkitBackgroundClip.includes('text') && node instanceof HTMLElement) clipping.add(node);
      } else {
        const text = node.data;
        let first = true;
        for (const found of text.matchAll(/\S+/g)) {
          for (let start = found.index; start < found.index + found[0].length;) {
            let end = Math.min(start + MOST_CHARS, found.index + found[0].length);
            if (/[\uD800-\uDBFF]/.test(text[end - 1]) && end < text.length) end += 1;
            letters += end - start;
            if (letters > MOST_LETTERS || words.length >= MOST_WORDS) return {much: true};
            if (first) texts.push(node);
            first = false;
            words.push({node, start, end, text: texts.length - 1, layer: 0});
            start = end;
          }
        }
      }
      node = walker.nextNode();
    }

    const range = rangeOf(document);
    const boxesOf = word => {  // of each letter that has one: [left, top, right, bottom] on the page
      const boxes = [];
      for (let at = word.start; at < word.end;) {
        const size = word.node.data.codePointAt(at) > 0xffff ? 2 : 1;
        range.setStart(word.node, at);
        range.setEnd(word.node, at + size);
        at += size;
        for (const rect of rectsOf(range)) {
          if (rect.width < 1 || rect.height < 1) continue;
          const small = rect.height < 4;  // nobody reads such letters
          const inset = rect.height * 0.12;
          boxes.push(small ? null : [rect.left + scrollX, rect.top + scrollY + inset, rect.right + scrollX,
            rect.bottom + scrollY - inset].map(part => Math.round(part * 10) / 10));
          break;
        }
      }
      return boxes;
    };

    const name = 'v' + Array.from(crypto.getRandomValues(new Uint32Array(4)), part => part.toString(36)).join('');
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(`::highlight(${name}) { color: transparent !important; text-shadow: none !important;
      -webkit-text-fill-color: transparent !important; -webkit-text-stroke-color: transparent !important; }`);
    sheetsOf(document).push(sheet);

    globalThis[Symbol.for('variet')] = {
      words, clipping, texts, boxesOf, look, name, root, bodyOf, parentOf, nameOf, attributeOf, styleOf, walkerOf,
      NEVER, MOST_LAYERS, fontsOf,
    };
    const isSoft = ({node, start, end}) => {
      const text = node.data.slice(start, end);
      return !/[\p{L}\p{N}]/u.test(text) || (text.length <= 2 && !/\S/.test(node.data.slice(0, start)));
    };
    return {much: false, words: words.length, texts: words.map(word => word.text), soft: words.map(isSoft)};
  },

  // Where the letters are, once each box has been scrolled to its column and row. `judged`: words seen already.
  layOut([column, row, judged, embedded, smallest]) {
    const page = globalThis[Symbol.for('variet')];
    const steps = [1, 1];
    const scrolls = overflow => overflow === 'auto' || overflow === 'scroll';
    const walker = page.walkerOf(document, page.root, NodeFilter.SHOW_ELEMENT);
    const get = (kind, name) => Function.prototype.call.bind(Object.getOwnPropertyDescriptor(kind.prototype, name).get);
    const set = (kind, name) => Function.prototype.call.bind(Object.getOwnPropertyDescriptor(kind.prototype, name).set);
    const clientWidth = get(Element, 'clientWidth'), clientHeight = get(Element, 'clientHeight');
    const scrollWidth = get(Element, 'scrollWidth'), scrollHeight = get(Element, 'scrollHeight');
    const toLeft = set(Element, 'scrollLeft'), toTop = set(Element, 'scrollTop');
    const body = page.bodyOf(document);
    while (walker.nextNode()) {
      const one = walker.currentNode;
      if (one === body) continue;
      const style = getComputedStyle(one);
      if (!scrolls(style.overflowX) && !scrolls(style.overflowY)) continue;
      const width = clientWidth(one), height = clientHeight(one);
      if (width < smallest || height < smallest) continue;
      if (scrolls(style.overflowX) && scrollWidth(one) > width) {
        steps[0] = Math.max(steps[0], Math.ceil(scrollWidth(one) / width));
        toLeft(one, (style.direction === 'rtl' ? -1 : 1) * column * width);
      }
      if (scrolls(style.overflowY) && scrollHeight(one) > height) {
        steps[1] = Math.max(steps[1], Math.ceil(scrollHeight(one) / height));
        toTop(one, row * height);
      }
    }

    const styled = one => one ? getComputedStyle(one) : {overflowX: 'visible', overflowY: 'visible'};
    let whole = styled(page.root);
    if (whole.overflowX === 'visible' && whole.overflowY === 'visible') whole = styled(body);
    const fixed = overflow => overflow === 'hidden' || overflow === 'clip';
    const size = {
      width: fixed(whole.overflowX) ? innerWidth : Math.max(innerWidth, scrollWidth(page.root)),
      height: fixed(whole.overflowY) ? innerHeight
        : Math.max(innerHeight, scrollHeight(page.root), body ? scrollHeight(body) : 0),
    };

    const fonts = embedded
      ? Array.from(page.fontsOf(document)).filter(font => font.status === 'loaded')
        .map(font => font.family.replace(/["']/g, '').toLowerCase())
      : [];
    const placed = [];
    page.words.forEach((word, at) => {
      word.layer = 0;
      if (judged[at]) return;
      const look = page.look(page.parentOf(word.node));
      if (look.masked || fonts.some(font => look.families.includes(font))) return;
      const boxes = page.boxesOf(word);
      if (boxes.length) placed.push({at, boxes});
    });

    // Words of which letters lie on each other get layers: those of one layer do not touch.
    const cells = new Map();
    const cell = 48;
    for (const one of placed) {
      const taken = new Set();
      const near = new Set();
      for (const box of one.boxes) {
        if (!box) continue;
        for (let x = Math.floor(box[0] / cell); x <= Math.floor(box[2] / cell) && x - box[0] / cell < 50; x++) {
          for (let y = Math.floor(box[1] / cell); y <= Math.floor(box[3] / cell) && y - box[1] / cell < 50; y++) {
            const key = x + ',' + y;
            const there = cells.get(key) ?? [];
            for (const [other, box2] of there) {
              if (other === one || near.has(other)) continue;
              const wide = Math.min(box[2], box2[2]) - Math.max(box[0], box2[0]);
              const high = Math.min(box[3], box2[3]) - Math.max(box[1], box2[1]);
              if (wide > 1.5 && high > 1.5) near.add(other);
            }
            there.push([one, box]);
            cells.set(key, there);
          }
        }
      }
      for (const other of near) {
        if (!other.layer) other.layer = 1;
        taken.add(other.layer);
      }
      one.layer = 0;
      if (near.size) {
        one.layer = 1;
        while (taken.has(one.layer)) one.layer += 1;
      }
    }
    const layers = placed.reduce((most, one) => Math.max(most, one.layer), 0);
    for (const one of placed) page.words[one.at].layer = one.layer;
    const boxes = placed.filter(one => one.layer <= page.MOST_LAYERS).map(one => [one.at, one.layer, one.boxes]);
    return {steps, size, boxes, layers: Math.min(layers, page.MOST_LAYERS)};
  },

  // Nothing is hidden with -1; all words with 0, else those of one layer.
  hide(layer) {
    const page = globalThis[Symbol.for('variet')];
    for (const element of page.clipping) page.styleOf(element).removeProperty('background-image');
    CSS.highlights.delete(page.name);
    if (layer < 0) return;
    const ranges = [];
    const add = (node, start, end) =>
      ranges.push(new StaticRange({startContainer: node, startOffset: start, endContainer: node, endOffset: end}));
    if (layer) {
      for (const word of page.words) if (word.layer === layer) add(word.node, word.start, word.end);
    } else {
      for (const text of page.texts) add(text, 0, text.length);  // a range for each word would take ten times as long
    }
    const highlight = new Highlight();
    for (const range of ranges) highlight.add(range);
    highlight.priority = 1000;
    CSS.highlights.set(page.name, highlight);
    for (const element of page.clipping) page.styleOf(element).setProperty('background-image', 'none', 'important');
  },

  // The page again, of the words that are seen: what is left of its elements says what is a list, a table, a link.
  told([seen, names]) {
    const page = globalThis[Symbol.for('variet')];
    const known = new Set(names), empty = new Set(['br', 'hr', 'img', 'wbr']);
    const escaped = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/"/g, '&quot;');
    const of = new Map();  // the words of each text
    page.words.forEach((word, at) => {
      if (!of.has(word.node)) of.set(word.node, []);
      of.get(word.node).push([word, seen[at]]);
    });
    let hidden = 0;
    const textOf = node => {
      const parts = of.get(node);
      if (!parts) return node.data;  // blanks
      let text = '', at = 0, gone = false;
      for (const [word, shown] of parts) {
        text += node.data.slice(at, word.start);
        if (shown) text += node.data.slice(word.start, word.end);
        else gone = true;
        at = word.end;
      }
      hidden += gone;
      return text + node.data.slice(at);
    };
    const linked = new Set();  // links of which something is seen
    page.words.forEach((word, at) => {
      if (!seen[at]) return;
      for (let one = page.parentOf(word.node); one; one = page.parentOf(one)) {
        if (one instanceof Element && page.nameOf(one) === 'a') linked.add(one);
      }
    });
    const lines = [];
    const walker = page.walkerOf(document, page.bodyOf(document) ?? page.root,
      NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    const open = [];  // [element, its name or nothing]
    const close = until => {
      while (open.length && open[open.length - 1][0] !== until) {
        const [, name] = open.pop();
        if (name) lines.push(`</${name}>`);
      }
    };
    let node = walker.firstChild();
    while (node) {
      close(page.parentOf(node) === walker.root ? undefined : page.parentOf(node));
      let deeper = true;
      if (node instanceof Element) {
        const name = page.nameOf(node);
        if (page.NEVER.has(name)) deeper = false;
        else {
          const told = known.has(name) && open.length < 150;
          if (told) {
            let text = `<${name}`;
            for (const key of ['href', 'colspan', 'rowspan', 'start', 'lang']) {
              const value = page.attributeOf(node, key);
              if (value !== null && (key !== 'href' || linked.has(node))) text += ` ${key}="${escaped(value)}"`;
            }
            if (name === 'img') {
              const style = getComputedStyle(node);
              text += ` width="${parseFloat(style.width) || 0}" height="${parseFloat(style.height) || 0}"`;
            }
            lines.push(text + '>');
          }
          if (!empty.has(name)) open.push([node, told ? name : '']);
        }
      } else {
        lines.push(escaped(textOf(node)));
      }
      if (deeper && walker.firstChild()) { node = walker.currentNode; continue; }
      node = null;
      do {
        if (walker.nextSibling()) { node = walker.currentNode; break; }
      } while (walker.parentNode() && walker.currentNode !== walker.root);
    }
    close(undefined);
    return {html: lines.join(''), hidden};
  },

  // Runs in another page. For each box of [left, top, right, bottom]: whether two pictures differ there.
  async differ([first, second, boxes, least]) {
    const pixels = async text => {
      const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
      const picture = await createImageBitmap(new Blob([bytes]));
      const {width, height} = picture;
      const context = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
      context.drawImage(picture, 0, 0);
      return {width, height, data: context.getImageData(0, 0, width, height).data};
    };
    const [one, other] = await Promise.all([first, second].map(pixels));
    if (one.width !== other.width || one.height !== other.height) return boxes.map(() => 0);
    return boxes.map(box => {
      const left = Math.max(0, Math.floor(box[0])), right = Math.min(one.width, Math.ceil(box[2]));
      const top = Math.max(0, Math.floor(box[1])), bottom = Math.min(one.height, Math.ceil(box[3]));
      for (let y = top; y < bottom; y++) {
        for (let at = 4 * (y * one.width + left), end = 4 * (y * one.width + right); at < end; at++) {
          if (Math.abs(one.data[at] - other.data[at]) >= least) return 1;
        }
      }
      return 0;
    });
  },
})
