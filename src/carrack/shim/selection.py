"""Which files of a tree a COPY, an ADD or a bind mount means: wildcards, links, `--parents`, `--exclude`.

Copying and the cache's checksum read a tree through this one module, so that what is hashed is what is copied. The tree is not
ours: names are looked up by openat2(2) below its root, one step at a time, and no symbolic link leads out of it.

Source of the rules: the Dockerfile reference, "COPY"; Go's `filepath.Match` for one component of a pattern.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from carrack.errors import InvalidParameter, NotFound
from carrack.kernel import paths
from carrack.path_patterns import PathPattern, PathRules, clean

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_BESIDE = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_MAGICLINKS
_MATCHES_LIMIT = 1_000_000
_DEPTH_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Chosen:
    """One file or directory that a pattern chose.

    `path` is where it is; `name` the name it gets in a directory ("" for a directory of which only the content is meant);
    `parents` the directories above it that travel with it (`--parents`), outermost first, relative to `pivot`.
    """

    path: str
    name: str
    status: os.stat_result
    pivot: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One entry below a chosen directory. `fd` is its directory's descriptor, good until the next step of the walk."""

    fd: int
    name: str
    relative: str
    status: os.stat_result
    leaves: bool = False
    """The walk comes back here after everything inside: the time for a directory's own facts."""


class SourceTree:
    """A tree that files are taken from. `root_fd` stays the caller's."""

    def __init__(self, root_fd: int) -> None:
        self.root_fd = root_fd

    def open(self, path: str, flags: int) -> int:
        """Open a path of the tree as seen from inside it. Raises OSError."""
        return paths.open_in(self.root_fd, path or ".", flags, resolve=_BESIDE)

    def choose(self, pattern: str, *, wildcards: bool = True, required: bool = True, follow: bool = True) -> list[Chosen]:
        """What a source means: itself, or every match of its wildcards. Raises NotFound in BuildKit's words."""
        path = _absolute(pattern)
        if not (wildcards and has_wildcards(path)):
            chosen = self._one(path, follow=follow)
            if chosen is None:
                if required:
                    raise NotFound(f'"{path}": not found')
                return []
            return [chosen]
        parts = path.strip("/").split("/")
        first = next(index for index, part in enumerate(parts) if has_wildcards(part))
        found = []
        for match in self._matches("/".join(parts[:first]), parts[first:]):
            chosen = self._one(match, follow=follow)
            if chosen is not None:  # a dangling link that a wildcard meets is nobody's mistake
                found.append(chosen)
        return found

    def choose_with_parents(self, pattern: str, *, required: bool = True) -> list[Chosen]:
        """The same for `--parents`: what precedes ``/./`` stays behind, ``**`` means any number of directories."""
        before, mark, after = pattern.partition("/./")
        pivot = _absolute(before).strip("/") if mark else ""
        wanted = _absolute(after if mark else pattern).strip("/")
        if mark and self._one(f"/{pivot}", follow=True) is None:
            if required:
                raise NotFound(f'"/{pivot}": not found')
            return []
        if not wanted:
            chosen = self._one(f"/{pivot}", follow=True)
            return [replace(chosen, name="", pivot=pivot)] if chosen else []
        found = []
        for match in dict.fromkeys(self._matches(pivot, _components(wanted))):
            below = match[len(f"/{pivot}") :].strip("/").split("/")
            chosen = self._one(match, follow=False)
            if chosen is not None:
                parents = tuple("/".join(below[:count]) for count in range(1, len(below)))
                found.append(Chosen(chosen.path, below[-1], chosen.status, pivot, parents))
        if not found and required and not has_wildcards(wanted):
            raise NotFound(f'"/{wanted}": not found')
        return found

    def walk(self, directory: Chosen, rules: PathRules, above: str = "") -> Iterator[Found]:
        """Everything below a chosen directory in the order of names, each directory before and (`leaves`) after its content.

        `rules` judge paths relative to the directory, with `above` in front. A directory that is left out is still entered when an
        exception may lie in it; it is then told only by what is found inside.
        """
        fd = self.open(directory.path, _DIRECTORY & ~os.O_NOFOLLOW)
        verdict = self._verdict(rules, above)
        stack = [_Open(fd, "", _names(fd), verdict)]
        try:
            while stack:
                level = stack[-1]
                if not level.names:
                    stack.pop()
                    os.close(level.fd)
                    if level.entry is not None and level.told:
                        yield replace(level.entry, fd=stack[-1].fd, leaves=True)
                    continue
                name = level.names.pop()
                relative = f"{level.relative}{name}"
                status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                is_directory = stat.S_ISDIR(status.st_mode)
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    continue  # a whiteout in a lowest layer, which no overlay shows
                verdict, left_out = level.verdict, False
                if rules:
                    judged = f"{above}/{relative}" if above else relative
                    verdict = rules.judge(judged, level.verdict)
                    left_out = rules.leaves_out(verdict)
                    if left_out and not (is_directory and rules.may_hold(judged)):
                        continue
                entry = Found(level.fd, name, relative, status)
                if not left_out:
                    for opened in stack:
                        if opened.entry is not None and not opened.told:
                            opened.told = True
                            yield opened.entry
                    yield entry
                if is_directory:
                    inner = os.open(name, _DIRECTORY | os.O_CLOEXEC, dir_fd=level.fd)
                    stack.append(_Open(inner, f"{relative}/", _names(inner), verdict, entry, told=not left_out))
        finally:
            for level in stack:
                os.close(level.fd)

    @staticmethod
    def _verdict(rules: PathRules, path: str) -> int:
        """What the rules say about the folder that a walk begins in."""
        verdict = PathRules.NONE
        parts = path.split("/") if path else []
        for count in range(1, len(parts) + 1):
            verdict = rules.judge("/".join(parts[:count]), verdict)
        return verdict

    def _one(self, path: str, *, follow: bool) -> Chosen | None:
        """A path's own entry, its last link followed or not; None when it is not there."""
        try:
            fd = self.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise
        try:
            return Chosen(path, path.rstrip("/").rpartition("/")[2], os.fstat(fd))
        finally:
            os.close(fd)

    def _matches(self, base: str, parts: list[str]) -> list[str]:
        """The paths below `base` that match the components, in the order of names; links on the way are not directories."""
        try:
            fd = self.open(f"/{base}", _DIRECTORY & ~os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return []
            raise
        found: list[str] = []
        try:
            self._match(fd, f"/{base}" if base else "", parts, found)
        finally:
            os.close(fd)
        return found

    def _match(self, fd: int, path: str, parts: list[str], found: list[str]) -> None:
        part, rest = parts[0], parts[1:]
        anywhere = part == "**"
        pattern = None if anywhere else _component(part)
        if path.count("/") > _DEPTH_LIMIT:
            raise InvalidParameter("directories are nested too deeply for a wildcard")
        if anywhere and rest:
            self._match(fd, path, rest, found)
        for name in sorted(os.listdir(fd)):
            if not anywhere and not (pattern(name) if pattern else name == part):
                continue
            if not rest:
                found.append(f"{path}/{name}")
                if len(found) > _MATCHES_LIMIT:
                    raise InvalidParameter("a wildcard matches too many files")
                continue
            try:
                inner = os.open(name, _DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    continue
                raise
            try:
                self._match(inner, f"{path}/{name}", parts if anywhere else rest, found)
            finally:
                os.close(inner)


@dataclass(slots=True)
class _Open:
    """A directory that is being walked: what is still to come, the last first."""

    fd: int
    relative: str
    names: list[str]
    verdict: int
    entry: Found | None = None
    """What stands for it in its parent; None for the directory that was chosen."""
    told: bool = True
    """False while nothing in a directory that is left out has been brought back."""


def _names(fd: int) -> list[str]:
    return sorted(os.listdir(fd), reverse=True)


def has_wildcards(text: str) -> bool:
    """Whether a name has wildcards that no backslash takes away."""
    return re.search(r"[*?\[]", re.sub(r"\\.", "", text)) is not None


def _component(part: str) -> Callable[[str], bool] | None:
    """The matcher of one component of a pattern; None for one that means itself."""
    if not any(character in part for character in "*?[\\"):
        return None
    return PathPattern(re.sub(r"\*+", "*", part)).matches


def _components(pattern: str) -> list[str]:
    """A `--parents` pattern in components; ``**`` stands alone, and only once in a row."""
    parts: list[str] = []
    for part in pattern.split("/"):
        pieces = ["**", f"*{part[2:]}"] if part.startswith("**") and part != "**" else [part]
        parts += pieces if parts[-1:] != ["**"] or pieces[0] != "**" else pieces[1:]
    return parts


def _absolute(pattern: str) -> str:
    """A source as BuildKit reads it: from the tree's root, ``..`` never above it."""
    return clean(f"/{pattern}")
