"""Images: names and ids to content, layers and configurations; load, save, import, list, tag, remove."""

from carrack.images.image import ContainerUse, Image, ImageDocument, Uses

__all__ = ["ContainerUse", "Image", "ImageDocument", "Uses"]
