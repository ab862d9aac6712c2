"""The README's picture, `docs/views.png`: one synthetic patient in the twelve views.

python -m benchmarks.picture
"""

import cv2
import numpy as np

from benchmarks.results import CHECKOUT
from echoplane.phantom import make_patient, scan_echo
from echoplane.study.views import VIDEO_VIEWS, View

SEED, FRAME = 5, 6
TILE_HEIGHT, TILE_WIDTH, TITLE_HEIGHT, COLUMNS = 210, 270, 22, 4


def main() -> None:
    patient = make_patient(SEED)
    tiles = [_tile(np.asarray(_sector(patient, view)), view) for view in VIDEO_VIEWS]
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    picture = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(CHECKOUT / "docs" / "views.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _sector(patient: object, view: View) -> np.ndarray:
    """One frame, cropped to the fan, black around it: (row, column, 3)."""
    clip = scan_echo(patient, view.name, 1, frames=FRAME + 1)  # type: ignore[arg-type]
    rows, columns = np.nonzero(clip.sector_mask)
    shown = np.where(clip.sector_mask[..., None], clip.rgb[FRAME], 0)
    return shown[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.uint8)


def _tile(sector: np.ndarray, view: View) -> np.ndarray:
    """The fan fitted into a tile, aspect kept, its title below."""
    scale = min(TILE_WIDTH / sector.shape[1], TILE_HEIGHT / sector.shape[0])
    fitted = cv2.resize(sector, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.zeros((TILE_HEIGHT + TITLE_HEIGHT, TILE_WIDTH, 3), np.uint8)
    left = (TILE_WIDTH - fitted.shape[1]) // 2
    tile[: fitted.shape[0], left : left + fitted.shape[1]] = fitted
    place = (8, TILE_HEIGHT + TITLE_HEIGHT - 7)
    cv2.putText(tile, view.title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (200, 200, 200), 1, cv2.LINE_AA)
    return tile


if __name__ == "__main__":
    main()
