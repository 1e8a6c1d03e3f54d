"""``--annotation``: levels, platforms, and keys that look like levels."""

from __future__ import annotations

import pytest

from carrack.build.annotations import INDEX, INDEX_DESCRIPTOR, MANIFEST, MANIFEST_DESCRIPTOR, Annotations
from carrack.errors import InvalidParameter
from carrack.oci.platform import Platform

ARM, AMD = Platform("linux", "arm64"), Platform("linux", "amd64")


def test_without_a_level_it_is_the_manifests() -> None:
    found = Annotations.parse({"a.b": "1", "with:colon": "2"})
    assert found.on(MANIFEST, ARM) == {"a.b": "1", "with:colon": "2"}
    assert found.on(INDEX) is None


def test_levels_and_platforms_choose_the_document() -> None:
    found = Annotations.parse({"index,manifest[linux/arm64]:k": "v", "manifest-descriptor:d": "w", "index-descriptor:e": "x"})
    assert found.on(INDEX) == {"k": "v"}
    assert (found.on(MANIFEST, ARM), found.on(MANIFEST, AMD)) == ({"k": "v"}, None)
    assert found.on(MANIFEST_DESCRIPTOR, AMD) == {"d": "w"}
    assert found.on(INDEX_DESCRIPTOR) == {"e": "x"}


@pytest.mark.parametrize("text", ["index[linux/arm64]:k", "", "manifest:"])
def test_what_names_no_document_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        Annotations.parse({text: "v"})


def test_an_index_needs_several_manifests() -> None:
    found = Annotations.parse({"index:k": "v"})
    found.check(has_index=True)
    with pytest.raises(InvalidParameter, match="not supported for single platform"):
        found.check(has_index=False)
