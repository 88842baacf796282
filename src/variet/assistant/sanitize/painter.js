// What of a page can be seen, by what is painted of it. Each function runs in the page, whose own scripts never run.
//
// A page may name its elements as methods of the document and of forms are named (`<img name="body">`): methods and
// properties are taken from prototypes for that reason. Nothing is written into the page's tree: its style sheets could
// tell.
({
  setUp() {
    const method = (kind, name) => Function.prototype.call.bind(kind.prototype[name]);
    const property = (kind, name) =>
      Function.prototype.call.bind(Object.getOwnPropertyDescriptor(kind.prototype, name).get);
    const setter = (kind, name) =>
      Function.prototype.call.bind(Object.getOwnPropertyDescriptor(kind.prototype, name).set);
    const page = {
      walkerOf: method(Document, 'createTreeWalker'), attributeOf: method(Element, 'getAttribute'),
      rootOf: property(Document, 'documentElement'), bodyOf: property(Document, 'body'),
      fontsOf: property(Document, 'fonts'), sheetsOf: property(Document, 'adoptedStyleSheets'),
      parentOf: property(Node, 'parentNode'), nameOf: property(Element, 'localName'),
      slotOf: property(Text, 'assignedSlot'), slotOfElement: property(Element, 'assignedSlot'),
      beforeOf: property(Element, 'previousElementSibling'),
      clientWidth: property(Element, 'clientWidth'), clientHeight: property(Element, 'clientHeight'),
      scrollWidth: property(Element, 'scrollWidth'), scrollHeight: property(Element, 'scrollHeight'),
      toLeft: setter(Element, 'scrollLeft'), toTop: setter(Element, 'scrollTop'),
    };
    const rectsOf = method(Range, 'getClientRects');
    const MOST_LETTERS = 400000, MOST_WORDS = 80000, MOST_CHARS = 8, LARGEST = 1000;
    page.NEVER = new Set(['script', 'style', 'template', 'noscript', 'head', 'iframe', 'frame', 'object', 'embed',
      'applet', 'audio', 'video', 'canvas', 'svg', 'math', 'map', 'area', 'link', 'meta', 'base', 'param', 'source',
      'track', 'datalist', 'noframes', 'noembed', 'portal', 'input', 'select', 'textarea', 'option', 'progress',
      'meter', 'title']);
    page.root = page.rootOf(document);

    // What moves stands as it does at a moment that no page can know, a few seconds after it was opened.
    const moment = 3000 + crypto.getRandomValues(new Uint16Array(1))[0] / 10;
    for (const motion of method(Document, 'getAnimations')(document)) {
      try {
        if (motion.playState === 'paused') continue;
        motion.pause();
        motion.currentTime = moment;
      } catch {  // it moves with the scroll bar, which stands where a picture is taken
        motion.play();
      }
    }

    // Where an element stands, as a selector.
    page.pathOf = element => {
      const parts = [];
      for (let one = element; one instanceof Element; one = page.parentOf(one)) {
        let at = 1;
        for (let before = page.beforeOf(one); before; before = page.beforeOf(before)) at += 1;
        parts.unshift(`:nth-child(${at})`);
      }
      return parts.join('>');
    };
    const boxOf = node => {  // of which element's box this is a part
      const slot = node instanceof Text ? page.slotOf(node) : node instanceof Element ? page.slotOfElement(node) : null;
      const parent = slot ?? page.parentOf(node);
      return parent instanceof ShadowRoot ? parent.host : parent;
    };
    const PLAIN = /^(none|((grayscale|sepia|saturate|brightness|contrast|hue-rotate|invert|opacity)\([^()]*\)\s*)+)$/;
    const inked = new Map();  // whether words in an element may be painted far from their place, or over with a thick line
    const isInked = element => {
      if (!(element instanceof Element)) return false;
      if (!inked.has(element)) {
        const style = getComputedStyle(element);
        const thick = parseFloat(style.textDecorationThickness) || 0, off = parseFloat(style.textUnderlineOffset) || 0;
        const clear = /rgba\(.*, 0(?:\.0\d*)?\)|\/ 0(?:\.0\d*)?\)/.test(style.webkitTextFillColor);
        const line = style.textDecorationLine !== 'none'  // it is taken away with its words
          && (clear || thick > 0.2 * parseFloat(style.fontSize) || Math.abs(off) > 12);
        inked.set(element, line || parseFloat(style.webkitTextStrokeWidth) > 2.5 || style.webkitTextSecurity !== 'none'
          || !PLAIN.test(style.filter) || (style.webkitBoxReflect ?? 'none') !== 'none' || isInked(boxOf(element)));
      }
      return inked.get(element);
    };
    const families = text => text.toLowerCase().replace(/["'\\]/g, '');
    const fonts = [...page.fontsOf(document)].filter(font => font.status === 'loaded').map(font => families(font.family));
    const masked = new Map();
    page.isMasked = node => {
      const parent = boxOf(node);
      if (!(parent instanceof Element)) return true;
      if (!masked.has(parent)) {
        const style = getComputedStyle(parent);
        masked.set(parent, style.display === 'none' || style.visibility !== 'visible' || isInked(parent)
          || fonts.some(font => families(style.fontFamily).includes(font)));
      }
      return masked.get(parent);
    };

    // Where a word is not to be cut: within a letter of two halves, before a mark, at a joiner.
    const isJoined = (text, at) => /[\uDC00-\uDFFF]/.test(text[at]) || text[at - 1] === '\u200d'
      || /^[\p{M}\p{Cf}\p{EMod}]/u.test(text.slice(at, at + 2));
    page.words = [];  // {node, start, end, text, layer}
    page.clipping = new Map();  // elements whose background is painted in the shape of their letters: its colour and layers
    const lazy = [];
    let letters = 0, texts = 0, cut = false;
    const walker = page.walkerOf(document, page.root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    const after = () => {  // passes over all that is in this node
      for (;;) {
        if (walker.nextSibling()) return walker.currentNode;
        if (!walker.parentNode()) return null;
      }
    };
    let node = walker.currentNode;
    while (node && !cut) {
      if (node instanceof Element) {
        if (page.NEVER.has(page.nameOf(node))) { node = after(); continue; }
        const style = getComputedStyle(node);
        if (style.contentVisibility === 'auto') lazy.push(node);
        if (style.webkitBackgroundClip.includes('text')) page.clipping.set(node, style);
      } else {
        const text = node.data;
        for (const found of text.matchAll(/\S+/g)) {
          for (let start = found.index; start < found.index + found[0].length && !cut;) {
            let end = Math.min(start + MOST_CHARS, found.index + found[0].length);
            while (end < found.index + found[0].length && isJoined(text, end)) end += 1;
            letters += end - start;
            cut = letters > MOST_LETTERS || page.words.length >= MOST_WORDS;
            page.words.push({node, start, end, text: texts, layer: -1});
            start = end;
          }
        }
        texts += 1;
      }
      node = walker.nextNode();
    }

    const range = method(Document, 'createRange')(document);
    page.boxesOf = word => {  // of each letter: [left, top, right, bottom] on the page, or null
      const boxes = [];
      const worded = /[\p{L}\p{N}]/u.test(word.node.data.slice(word.start, word.end));
      for (let at = word.start; at < word.end;) {
        const letter = String.fromCodePoint(word.node.data.codePointAt(at));
        range.setStart(word.node, at);
        range.setEnd(word.node, at + letter.length);
        at += letter.length;
        if (/[\p{M}\p{Cf}\p{Cc}]/u.test(letter) || (worded && /[\p{P}\p{Sk}]/u.test(letter))) continue;
        const rect = [...rectsOf(range)].find(one => one.width > 0 && one.height > 0);
        if (!rect && !/[\p{L}\p{N}]/u.test(letter)) continue;
        const fits = rect && Math.min(rect.width, rect.height) >= 1 && Math.max(rect.width, rect.height) >= 6
          && rect.width < LARGEST && rect.height < LARGEST;
        boxes.push(fits ? [rect.left + scrollX, rect.top + scrollY, rect.right + scrollX, rect.bottom + scrollY]
          .map(part => Math.round(part * 10) / 10) : null);
      }
      return boxes.some(box => box) ? boxes : [];
    };

    page.name = 'v' + Array.from(crypto.getRandomValues(new Uint32Array(4)), part => part.toString(36)).join('');
    // An image that is not there may cover words: it is grey.
    const rules = [`@layer ${page.name} { * { scroll-behavior: auto !important } img { background: gray !important } }`,
      `::highlight(${page.name}) { color: transparent !important; -webkit-text-fill-color: transparent !important; text-shadow: none !important;
        -webkit-text-stroke-color: transparent !important; }`,
      ...lazy.map(one => `${page.pathOf(one)} { content-visibility: visible !important }`)];
    page.clipped = new CSSStyleSheet();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(rules.join('\n'));
    page.sheetsOf(document).push(sheet, page.clipped);
    globalThis[Symbol.for('variet')] = page;
    const isSoft = ({node, start, end}) => {
      const text = node.data.slice(start, end);
      return /^\p{P}{1,3}$/u.test(text) || (text.length <= 2 && !/\S/.test(node.data.slice(0, start)));
    };
    return {cut, texts: page.words.map(word => word.text), soft: page.words.map(isSoft)};
  },

  // Where the letters of the words are that were not seen yet, once each box is scrolled to its column and row.
  layOut([column, row, judged, smallest]) {
    const page = globalThis[Symbol.for('variet')];
    const steps = [1, 1];
    const scrolls = overflow => overflow === 'auto' || overflow === 'scroll';
    const walker = page.walkerOf(document, page.root, NodeFilter.SHOW_ELEMENT);
    const body = page.bodyOf(document);
    scrollTo(0, 0);
    while (walker.nextNode()) {
      const one = walker.currentNode;
      if (one === body) continue;
      const style = getComputedStyle(one);
      if (!scrolls(style.overflowX) && !scrolls(style.overflowY)) continue;
      const width = page.clientWidth(one), height = page.clientHeight(one);
      if (width < smallest || height < smallest) continue;
      if (scrolls(style.overflowX) && page.scrollWidth(one) > width) {
        steps[0] = Math.max(steps[0], Math.ceil(page.scrollWidth(one) / width));
        page.toLeft(one, (style.direction === 'rtl' ? -1 : 1) * column * width);
      }
      if (scrolls(style.overflowY) && page.scrollHeight(one) > height) {
        steps[1] = Math.max(steps[1], Math.ceil(page.scrollHeight(one) / height));
        page.toTop(one, (style.flexDirection === 'column-reverse' ? -1 : 1) * row * height);
      }
    }

    const styled = one => one ? getComputedStyle(one) : {overflowX: 'visible', overflowY: 'visible'};
    let whole = styled(page.root);
    if (whole.overflowX === 'visible' && whole.overflowY === 'visible') whole = styled(body);
    const fixed = overflow => overflow === 'hidden' || overflow === 'clip';
    const size = {
      width: fixed(whole.overflowX) ? innerWidth : Math.max(innerWidth, page.scrollWidth(page.root)),
      height: fixed(whole.overflowY) ? innerHeight
        : Math.max(innerHeight, page.scrollHeight(page.root), body ? page.scrollHeight(body) : 0),
    };

    const placed = [];
    page.words.forEach((word, at) => {
      word.layer = -1;
      if (judged[at] || page.isMasked(word.node)) return;
      const boxes = page.boxesOf(word);
      if (boxes.length) placed.push({at, boxes, layer: 0});
    });

    // Words of which letters touch get layers: those of one layer do not touch.
    const cells = new Map();
    const cell = 48, LAYERS = 12;
    for (const one of placed) {
      const near = new Set();
      for (const box of one.boxes) {
        if (!box) continue;
        for (let x = Math.floor(box[0] / cell); x <= Math.floor(box[2] / cell); x++) {
          for (let y = Math.floor(box[1] / cell); y <= Math.floor(box[3] / cell); y++) {
            const key = x + ',' + y;
            const there = cells.get(key) ?? [];
            for (const [other, box2] of there) {
              if (other === one || near.has(other)) continue;
              const wide = Math.min(box[2], box2[2]) - Math.max(box[0], box2[0]);
              const high = Math.min(box[3], box2[3]) - Math.max(box[1], box2[1]);
              if (wide > 0.3 && high > 0.3) near.add(other);
            }
            if (there.length < 200) there.push([one, box]);
            else one.layer = LAYERS;  // nobody reads what is written two hundred times in one place
            cells.set(key, there);
          }
        }
      }
      const taken = new Set([...near].map(other => other.layer));
      while (taken.has(one.layer)) one.layer += 1;
    }
    const boxes = placed.filter(one => one.layer < LAYERS);
    for (const one of boxes) page.words[one.at].layer = one.layer;
    const layers = boxes.reduce((most, one) => Math.max(most, one.layer + 1), 0);
    return {steps, size, layers, boxes: boxes.map(one => [one.at, one.layer, one.boxes])};
  },

  // Takes the words of one layer away; those of none with -1.
  hide(layer) {
    const page = globalThis[Symbol.for('variet')];
    CSS.highlights.delete(page.name);
    page.clipped.replaceSync('');
    if (layer < 0) return;
    const ranges = [];  // one for the words of a text: one for each word takes ten times as long
    let last = null;
    for (const word of page.words) {
      if (word.layer !== layer) last = null;
      else if (last?.node === word.node) last.end = word.end;
      else ranges.push(last = {node: word.node, start: word.start, end: word.end});
    }
    const highlight = new Highlight();
    for (const {node, start, end} of ranges) {
      highlight.add(new StaticRange({startContainer: node, startOffset: start, endContainer: node, endOffset: end}));
    }
    highlight.priority = 1000;
    CSS.highlights.set(page.name, highlight);

    const rules = new Map();
    for (const {node} of ranges) {
      for (let one = page.parentOf(node); one; one = page.parentOf(one)) {
        if (!page.clipping.has(one) || rules.has(one)) continue;
        const {backgroundImage, webkitBackgroundClip} = page.clipping.get(one);
        const clips = webkitBackgroundClip.split(',').map(clip => clip.trim());
        const images = backgroundImage.match(/(?:[^,(]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))+/g) ?? ['none'];
        const left = images.map((image, at) => clips[at % clips.length] === 'text' ? 'none' : image.trim());
        const colour = clips[(images.length - 1) % clips.length] === 'text' ? 'background-color: transparent !important' : '';
        rules.set(one, `${page.pathOf(one)} { background-image: ${left.join(', ')} !important; ${colour} }`);
      }
    }
    page.clipped.replaceSync([...rules.values()].join('\n'));
  },

  scroll(top) {
    scrollTo({left: 0, top, behavior: 'instant'});
    return scrollY;
  },

  // Once all that was changed is painted. A tab behind others paints nothing: then half a second is enough.
  settle() {
    return new Promise(done => {
      requestAnimationFrame(() => requestAnimationFrame(() => done(null)));
      setTimeout(() => done(null), 500);
    });
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
      let text = '', at = 0, gone = false;
      for (const [word, shown] of of.get(node) ?? []) {
        text += node.data.slice(at, word.start);
        if (shown) text += node.data.slice(word.start, word.end);
        else gone = true;
        at = word.end;
      }
      const rest = node.data.slice(at);  // blanks, or words that were not looked at
      gone ||= /\S/.test(rest);
      hidden += gone;
      return text + (/\S/.test(rest) ? ' ' : rest);
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
            if (name === 'details') text += ' open';
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

  // Runs in another page. For each box of [left, top, right, bottom]: whether two pictures differ in it as letters do.
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
    const a = one.data, b = other.data;
    return boxes.map(box => {
      const left = Math.max(0, Math.floor(box[0])), right = Math.min(one.width, Math.ceil(box[2]));
      const inset = (box[3] - box[1]) * 0.1;
      const top = Math.max(0, Math.floor(box[1] + inset)), bottom = Math.min(one.height, Math.ceil(box[3] - inset));
      const wanted = Math.max(2, 0.12 * (box[3] - box[1]));
      let rows = 0;
      for (let y = top; y < bottom && rows < wanted; y++) {
        for (let at = 4 * (y * one.width + left), end = 4 * (y * one.width + right); at < end; at += 4) {
          const far = 0.3 * Math.abs(a[at] - b[at]) + 0.59 * Math.abs(a[at + 1] - b[at + 1])
            + 0.11 * Math.abs(a[at + 2] - b[at + 2]);
          if (far >= least) { rows += 1; break; }
        }
      }
      return rows >= wanted ? 1 : 0;
    });
  },
})
