"""Whole numbers as they are stored, into floats about zero: on the device where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mmcache.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Normalize"]

_AT_ONCE = 1 << 19  # pixels' numbers that stay in a processor's cache while they are worked on


class Normalize:
    """Turns images of whole numbers into ``(image / largest - mean) / std``, in one pass.

    ``largest`` is 255 for uint8 and 65535 for uint16, as in torchvision's ``ToDtype(scale=True)``
    and ``Normalize`` one after the other. The result has the shape, the device and the order in
    memory of what was given: ``(n, C, H, W)``, ``(C, H, W)`` or a list of such. A GPU is best
    handed whole numbers, which are a quarter of the bytes, and normalises them itself.

    Parameters
    ----------
    mean, std : sequence of float
        One a channel, for images from 0 to 1.
    dtype : torch.dtype
        Of the result; all is reckoned in float32.

    Raises
    ------
    SettingError
        (a ``ValueError``) where there is not one mean and one std above 0 a channel, or images are
        not of whole numbers.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.mean = tuple(float(one) for one in mean)
        self.std = tuple(float(one) for one in std)
        self.dtype = dtype
        if len(self.mean) != len(self.std) or not all(one > 0 for one in self.std):
            raise SettingError(
                f"mean={mean!r} and std={std!r} are not as many, or a std is not above 0"
            )
        if not dtype.is_floating_point:
            raise SettingError(f"dtype={dtype} was asked for, and normalised images are floats")
        # What images are multiplied by, and what is added then, by their dtype and device.
        self._constants: dict[tuple[torch.dtype, torch.device], tuple[torch.Tensor, ...]] = {}

    def __call__(self, images: Any) -> Any:
        """Return *images* normalised: new tensors; those that were given stay as they are."""
        if isinstance(images, (list, tuple)):
            return [self(image) for image in images]
        channels = images.shape[-3]
        if channels != len(self.mean):
            raise SettingError(
                f"images have {channels} channels, and mean and std are for {len(self.mean)}"
            )
        scale, shift = self._constants_for(images)
        if images.device.type != "cpu":
            return torch.addcmul(shift, images, scale).to(self.dtype)
        return self._in_parts(images, scale, shift)

    def _in_parts(
        self, images: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
    ) -> torch.Tensor:
        """Do a few images after another, so that each stays in the cache from first to last."""
        made = torch.empty_like(images, dtype=self.dtype)
        source, target = (one if one.ndim > 3 else one[None] for one in (images, made))  # noqa: PLR2004
        if source.movedim(-3, -1).is_contiguous():
            # Lines of a picture's width: the inner loop is then as long as it can be.
            width = source.shape[-1]
            source, target = (one.movedim(-3, -1).flatten(-2) for one in (source, target))
            scale, shift = (one.flatten().repeat(width) for one in (scale, shift))
        step = max(1, _AT_ONCE // max(1, source[:1].numel()))
        for part, out in zip(source.split(step), target.split(step), strict=True):
            exact = (
                out if self.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
            )
            exact.copy_(part)
            torch.addcmul(shift, exact, scale, out=exact)
            if exact is not out:
                out.copy_(exact)
        return made

    def _constants_for(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        place = images.dtype, images.device
        if place not in self._constants:
            largest = _LARGEST.get(images.dtype)
            if largest is None:
                raise SettingError(
                    f"images are {images.dtype}, and what is normalised is"
                    f" {' or '.join(map(str, _LARGEST))}"
                )
            mean, std = (torch.tensor(one, dtype=torch.float64) for one in (self.mean, self.std))
            self._constants[place] = tuple(
                one.float().view(-1, 1, 1).to(images.device)
                for one in (1 / (largest * std), -mean / std)
            )
        return self._constants[place]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_constants": {}}  # another process has devices of its own

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std}, dtype={self.dtype})"


_LARGEST = {torch.uint8: 255, torch.uint16: 65_535}
