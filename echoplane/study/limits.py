"""Limits of the readers, so that a small file cannot expand to gigabytes."""

from dataclasses import dataclass

from echoplane.errors import TooLarge

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Maximum sizes that are read."""

    frame_pixels: int = 32_000_000
    """Maximum rows x columns of one frame."""
    frames: int = 10_000
    decoded_pixels: int = 256_000_000
    """Maximum rows x columns x frames that are decoded at once: 32 frames of 2000 x 4000, 500 of 640 x 800."""
    video_pixels: int = 1_000_000_000
    """Maximum rows x columns x frames of a video, all of which are decoded to count them: 2,000 frames of 600 x 800."""
    inflated_bytes: int = 1024 * MIB
    """Maximum size of a deflated file after inflating."""

    def check(self, rows: int, columns: int, frame_count: int) -> None:
        """Raises TooLarge if a clip of this shape exceeds a limit."""
        if rows * columns > self.frame_pixels:
            raise TooLarge(
                f"a frame of {rows} x {columns} has {rows * columns / 1e6:.0f} million pixels; "
                f"at most {self.frame_pixels / 1e6:.0f} million are read."
            )
        if frame_count > self.frames:
            raise TooLarge(f"the clip has {frame_count} frames; at most {self.frames} are read.")

    def check_decoded(self, rows: int, columns: int, frame_count: int) -> None:
        """Raises TooLarge if this number of frames of this size is too large to be decoded at once."""
        if rows * columns * frame_count > self.decoded_pixels:
            raise TooLarge(
                f"{frame_count} frames of {rows} x {columns} have {rows * columns * frame_count / 1e6:.0f} million "
                f"pixels; at most {self.decoded_pixels / 1e6:.0f} million are decoded at once. Send smaller frames."
            )


DEFAULT_LIMITS = Limits()
