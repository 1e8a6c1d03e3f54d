"""`carrack completion bash|zsh|fish`: scripts that ask `carrack __complete` what may come next.

They complete any name the program is called by: `alias docker=carrack` in a shell is followed to it.
"""

from __future__ import annotations

from carrack.cli.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

BASH = r"""# bash completion for carrack: source <(carrack completion bash), or put it into /etc/bash_completion.d/
_carrack() {
    local IFS=$'\n' current=${COMP_WORDS[COMP_CWORD]} answer directive word
    local -a words=("${COMP_WORDS[@]:1:COMP_CWORD-1}") lines
    # bash splits words at = and : too; put them together again
    local -a joined=()
    for word in "${words[@]}"; do
        if [[ ${#joined[@]} -gt 0 && ( $word == [=:]* || ${joined[-1]} == *[=:] ) ]]; then joined[-1]+=$word
        else joined+=("$word"); fi
    done
    local typed=$current prefix=
    if [[ ${#joined[@]} -gt 0 && ( $current == [=:]* || ${joined[-1]} == *[=:] ) ]]; then
        prefix=${joined[-1]}; typed=$prefix$current; unset 'joined[-1]'
    fi
    answer=$(carrack __completeNoDesc "${joined[@]}" "$typed" 2>/dev/null) || return
    mapfile -t lines <<<"$answer"
    directive=${lines[-1]#:}; unset 'lines[-1]'
    COMPREPLY=()
    for word in "${lines[@]}"; do
        word=${word#"$prefix"}
        [[ $current == [=:] ]] && word=${word#"$current"}
        COMPREPLY+=("$word")
    done
    if (( directive & 2 )); then compopt -o nospace; fi
    if (( ! (directive & 4) && ${#COMPREPLY[@]} == 0 )); then compopt -o default; fi
}
complete -F _carrack carrack
"""

ZSH = r"""#compdef carrack
# zsh completion for carrack: put it as _carrack into a folder of $fpath, or source <(carrack completion zsh)
_carrack() {
    local -a lines candidates
    local answer directive line word
    answer=$(carrack __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null) || return 1
    lines=("${(@f)answer}")
    directive=${lines[-1]#:}
    lines[-1]=()
    for line in "${lines[@]}"; do
        word=${${line%%$'\t'*}//:/\\:}
        if [[ $line == *$'\t'* && -n ${line#*$'\t'} ]]; then candidates+=("$word:${line#*$'\t'}"); else candidates+=("$word"); fi
    done
    local -a options
    (( directive & 2 )) && options=(-S '')
    if (( ${#candidates} )); then _describe -t words carrack candidates "${options[@]}"
    elif (( ! (directive & 4) )); then _files; fi
}
compdef _carrack carrack 2>/dev/null
[[ $funcstack[1] == _carrack ]] && _carrack "$@"
"""

FISH = r"""# fish completion for carrack: carrack completion fish | source, or put it into ~/.config/fish/completions/carrack.fish
function __carrack_answer
    set -l words (commandline -opc)
    carrack __complete $words[2..-1] (commandline -ct) 2>/dev/null
end
function __carrack_words
    __carrack_answer | string match -v -r '^:\d+$'
end
function __carrack_wants_files
    set -l answer (__carrack_answer)
    test (count $answer) -eq 1; and test (math "bitand("(string sub -s 2 -- $answer[-1])", 4)") -eq 0
end
complete -c carrack -e
complete -c carrack -f -n 'not __carrack_wants_files' -a '(__carrack_words)'
complete -c carrack -F -n __carrack_wants_files
"""

_TEXTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str) -> str:
    """The completion script of a shell."""
    return _TEXTS[shell]


def _print(shell: str) -> Callable[[Session, Parsed], None]:
    def run(session: Session, _parsed: Parsed) -> None:
        session.out.write(script(shell))

    return run


COMMANDS = tuple(
    Command(f"completion {shell}", "", f"Print the completion script for {shell}", _print(shell), at_most=0) for shell in _TEXTS
)
