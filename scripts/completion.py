"""`rl-discovery completion SHELL`: a script by which a shell completes commands, options and names.

In ~/.bashrc or ~/.zshrc: eval "$(rl-discovery completion bash)", or zsh; in fish's config.fish:
rl-discovery completion fish | source
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import tyro

from rl_discovery.scripts import index
from rl_discovery.scripts.index import FILES, NAMED, SWITCH

CANDIDATES = "candidates"
"""In place of a shell: `completion candidates -- WORDS...` prints what the last word may become."""

LISTINGS = {
    "--preset": ("presets",),
    "--suite": ("suites", "distributions"),
    "--baselines": ("objectives",),
    "--start-from": ("objectives",),
    "--objective.kind": ("objectives",),
    "--distribution": ("distributions",),
    "--score": ("scores",),
} | {f"--{field}": listings[-1:] for field, (_, listings) in NAMED.items()}
"""Options that take names of these listings."""

OBJECTIVES = ("evaluate", "analyse", "export", "report")
"""Commands whose first words are objectives, or runs."""

SCRIPTS = {
    "bash": r"""_rl_discovery() {
    local IFS=$'\n'
    COMPREPLY=($(rl-discovery completion candidates -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _rl_discovery rl-discovery""",
    "zsh": r"""autoload -Uz compinit && (( $+functions[compdef] )) || compinit
_rl_discovery() {
    local -a candidates
    candidates=("${(@f)$(rl-discovery completion candidates -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $candidates ]]; then compadd -a candidates; else _files; fi
}
compdef _rl_discovery rl-discovery""",
    "fish": r"""function __rl_discovery
    set -l words (commandline -opc) (commandline -ct)
    rl-discovery completion candidates -- $words[2..] 2>/dev/null
end
complete -c rl-discovery -a '(__rl_discovery)'""",
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print a script that completes commands, options and names in a shell.

    bash and zsh: eval "$(rl-discovery completion bash)" (or zsh) in ~/.bashrc or ~/.zshrc;
    fish: rl-discovery completion fish | source, in config.fish.
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Which one."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    if list(argv[:2]) == [CANDIDATES, "--"]:
        print("\n".join(candidates(argv[2:])))
        return 0
    from rl_discovery.scripts.arguments import parse

    print(SCRIPTS[parse(Arguments, argv, "completion").shell])
    return 0


def candidates(words: Sequence[str]) -> Iterator[str]:
    """What the last word of a command line may become; nothing where that is a file or anything.

    Args:
        words: those after `rl-discovery`, the last of them unfinished or empty.
    """
    from rl_discovery.scripts.cli import COMMANDS

    *before, word = words or [""]
    if not before:
        yield from _beginning(word, [*COMMANDS, "--help", "--version"])
        return
    if before[0] not in COMMANDS:
        return
    document = index.make()
    flags = document["commands"][before[0]]
    if before[0] == "meta-train" or "--" in before:
        flags = {**document["commands"]["meta-train"], **dict(_fields(document))}
    if word == "=":  # bash takes --flag=value apart
        word = ""
    flag = next((past for past in reversed(before) if past.startswith("--")), "")
    if word.startswith("-"):
        yield from _beginning(
            word, [*flags, "--plugin", "--help", *(["--help-all"] if "--seed" in flags else [])]
        )
    elif flag:
        yield from _beginning(word, _values(flag, flags.get(flag), document))
    elif before[0] == "list":
        yield from _beginning(word, document["names"])
    elif before[0] == "completion":
        yield from _beginning(word, SCRIPTS)
    elif before[0] in OBJECTIVES:
        yield from _beginning(word, document["loadable"])


def _fields(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, schema in index.all_fields(document).items():
        flag = f"--{name.replace('_', '-')}"
        if schema.get("type") == "boolean":
            part, _, last = flag.removeprefix("--").rpartition(".")
            yield flag, SWITCH
            yield f"--{part}.no-{last}" if part else f"--no-{last}", SWITCH
        else:
            yield flag, index.enumerated(schema)


def _values(flag: str, follows: Any, document: dict[str, Any]) -> list[str]:
    """What may follow an option."""
    if flag == "--objective.kind":
        return list(document["learned"])
    if flag in LISTINGS:
        return index.listed(document, *LISTINGS[flag])
    return [] if follows in (None, FILES, SWITCH) else list(map(str, follows))


def _beginning(word: str, known: Any) -> Iterator[str]:
    return (name for name in known if name.startswith(word))
