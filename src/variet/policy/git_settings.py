"""Pure: which settings of a repository can make git run nothing but itself.

`remote.origin.url` is such a setting, `filter.lfs.clean` is none. What is not known is none: git gets new ones.
"""

from __future__ import annotations

import re

_ANY = r"[^\n]*"
_RUNS_NOTHING = re.compile(
    "|".join(
        [
            # core.hookspath and core.fsmonitor are overruled wherever git may write its repository.
            r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|autocrlf"
            r"|eol|safecrlf|abbrev|quotepath|compression|commentchar|commentstring|sharedrepository|trustctime|checkstat"
            r"|untrackedcache|preloadindex|splitindex|whitespace|longpaths|protecthfs|protectntfs|hookspath|fsmonitor"
            r"|bigfilethreshold|excludesfile|sparsecheckout|sparsecheckoutcone|warnambiguousrefs|fscache|deltabasecachelimit)",
            r"extensions\.(objectformat|refstorage|partialclone|noop|worktreeconfig|relativeworktrees)",
            r"(user|author|committer)\.(name|email|useconfigonly|signingkey)",
            # Editors and forges keep notes of their own there: vscode-merge-base, gh-resolved.
            rf"branch\.{_ANY}\.(?!mergeoptions$)[a-z0-9-]+",
            rf"remote\.{_ANY}\.(url|pushurl|fetch|push|tagopt|prune|prunetags|mirror|skipfetchall|skipdefaultupdate|promisor"
            r"|partialclonefilter|gh-resolved|followremotehead)",
            r"(branch\.(autosetupmerge|autosetuprebase|sort)|remote\.pushdefault)",
            rf"submodule\.{_ANY}\.(url|active|branch|ignore)",
            r"submodule\.(active|recurse|fetchjobs)",
            r"(init\.defaultbranch|pull\.(rebase|ff)|push\.(default|recursesubmodules|autosetupremote|followtags|usebitmaps))",
            r"fetch\.(recursesubmodules|prune|prunetags|parallel|all|writecommitgraph)",
            r"merge\.(renormalize|ff|conflictstyle|log|renames|renamelimit|stat|autostash|verbosity|tool|guitool)",
            r"rebase\.(autosquash|autostash|updaterefs|stat|missingcommitscheck)",
            r"commit\.(template|verbose|status|cleanup|gpgsign)",
            r"tag\.(gpgsign|sort)",
            r"(color|column|advice|i18n|status|rerere|stash|format|grep|apply|blame|index|feature|pack|gui)\.[a-z.]+",
            r"log\.(date|decorate|abbrevcommit|follow|showroot|mailmap|showsignature)",
            r"diff\.(renames|renamelimit|algorithm|context|colormoved|mnemonicprefix|noprefix|wserrorhighlight|submodule"
            r"|indentheuristic|relative|interhunkcontext|tool|guitool)",
            r"(gc\.(auto|autodetach|autopacklimit|pruneexpire|reflogexpire|aggressivewindow)|maintenance\.(auto|strategy))",
            r"(receive\.denycurrentbranch|transfer\.fsckobjects|help\.autocorrect|protocol\.version|lfs\.repositoryformatversion)",
            rf"(lfs\.url|lfs\.{_ANY}\.(locksverify|access)|github\.user|gitflow\.{_ANY}|uploadpack\.allow[a-z0-9]*)",
            r"http\.(postbuffer|sslverify|version|lowspeedlimit|lowspeedtime)",
        ]
    ),
    re.IGNORECASE,
)
# What git is told on top of a repository's own settings wherever it may write: last told, it counts.
OVERRULED = {
    "core.hooksPath": "/dev/null", "core.fsmonitor": "false", "commit.gpgSign": "false", "tag.gpgSign": "false",
    "push.gpgSign": "false", "log.showSignature": "false", "credential.helper": "",
}  # fmt: skip


def running(keys: list[str]) -> list[str]:
    """Those of a repository's settings that may make git run a program."""
    return [key for key in keys if not _RUNS_NOTHING.fullmatch(key)]
