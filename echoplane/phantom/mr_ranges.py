"""Ranges from which one cine MR scan is drawn at random: the heart, the scanner's contrast, its optics and geometry.

USUAL_MR is three scanners of one hospital each. VARIED_MR is for networks that must read other hospitals and vendors:
anatomy, contrast, optics and geometry vary widely and independently of one another. UNSEEN_VENDORS lie outside
VARIED_MR in one respect each; they are kept out of training, to measure the loss of accuracy there. A pair is a uniform
range (low, high); a `_share` is a share of patients; `_sd` is a standard deviation. Signals are relative to blood = 1.
"""

from dataclasses import dataclass, field, replace

from echoplane.phantom.ranges import Pair


@dataclass(frozen=True)
class Field:
    """Properties of one scanner; signals relative to blood = 1."""

    myocardium: Pair
    """Range of the myocardium's signal over patients."""
    fat: Pair
    blur_mm: Pair
    noise: Pair
    """Deviation of the noise in each of the two receiver channels."""
    bias: float
    """Logarithm of the coil's fall-off over the picture."""
    banding: float
    """Share of pictures with a dark band."""
    flow: float
    """Maximum darkening of blood by flow."""


@dataclass(frozen=True)
class MrHeartRanges:
    """Anatomy at end diastole; see `Heart`."""

    edv_ml: Pair = (65, 320)
    """Volume of the left ventricle; its logarithm is uniform."""
    slenderness: Pair = (0.85, 1.15)
    """Factor of the left ventricle's usual length at its volume."""
    ef: tuple[float, float, float] = (0.12, 0.62, 0.82)
    """Minimum, mode and maximum of a triangular distribution."""
    stroke_ml: Pair = (18, 125)
    """Limits of the stroke volume; ejection fractions beyond them are moved to them."""
    wall_mm: Pair = (5, 17)
    """Thickness; its logarithm is uniform."""
    ellipse: Pair = (0.93, 1.08)
    """Factor by which the heart is stretched in one direction across its axis, and shrunk in the other."""
    sector_deg: Pair = (30, 65)
    """Width of a sector of the wall."""
    septum_share: float = 0.25
    """Share of asymmetric hypertrophy."""
    septum_mm: Pair = (3, 11)
    scar_share: float = 0.25
    scar_thinning: Pair = (0.0, 0.6)
    scar_akinesia: Pair = (0.2, 1.0)
    scar_signal: Pair = (-0.3, 0.8)
    """Change of the muscle's signal in the scar."""
    unevenness_wall_mm: Pair = (-1.5, 1.5)
    """Thickening of one sector in every heart."""
    apex: Pair = (0.3, 0.9)
    """Thickness of the muscle at the apex as a share of the wall's."""
    papillary_size: Pair = (0.3, 1.5)
    papillary_sd_deg: float = 12
    papillary_out: Pair = (-0.05, 0.22)
    rv_size: Pair = (0.75, 1.4)
    rv_axes: tuple[Pair, Pair, Pair] = ((0.75, 1.12), (0.82, 1.12), (0.85, 1.1))
    rv_place: tuple[Pair, Pair, Pair] = ((0.62, 0.85), (-3, 11), (0.6, 0.7))
    rv_wall_mm: Pair = (2.5, 5.5)
    unevenness_mm: Pair = (0.4, 2.4)
    atrium_radius_mm: Pair = (15, 27)
    atrial_axes: tuple[Pair, Pair, Pair] = ((0.8, 1.25), (0.8, 1.25), (0.85, 1.4))
    outflow_deg: Pair = (30, 52)
    tilt_sd_deg: float = 9
    epicardial_mm: Pair = (-2, 11)
    """Mean thickness of the fat around the heart; below zero, there is some in places alone."""
    epicardial_sd_mm: Pair = (2, 6)
    fat_mm: Pair = (3, 40)


@dataclass(frozen=True)
class ContrastRanges:
    """Signals, and what muscle in the cavities looks like; see `Look`."""

    scanner: Field
    rv_blood: Pair = (0.8, 1.15)
    other_blood: Pair = (0.7, 1.15)
    blood_falls: Pair = (-0.15, 0.2)
    """Loss of the blood's signal from end diastole to end systole."""
    liver: Pair = (0.6, 1.8)
    """Liver as a factor of the myocardium."""
    rv_wall: Pair = (0.85, 1.4)
    skeletal: Pair = (0.6, 1.3)
    lung: Pair = (0.01, 0.16)
    spine: Pair = (0.2, 0.9)
    opposed_share: float = 0.7
    """Share of series in which fat and water cancel where they share a voxel: black lines at their borders."""
    opposed_pericardium_mm: Pair = (0.2, 1.2)
    """Thickness of the pericardium in these, beside the black line."""
    fingers: Pair = (0.0, 1.0)
    """Darkening by fine trabeculae, as a share of the difference between blood and muscle."""
    fingers_mm: Pair = (1.5, 9)
    """Depth of the fine trabeculae in either ventricle."""
    band_mm: Pair = (0.0, 3.5)
    """Radius of the moderator band."""
    effusion_share: float = 0.1
    effusion_mm: Pair = (2, 14)
    effusion: Pair = (0.5, 1.2)
    """Signal of the effusion."""
    slice_gain_sd: float = 0.06


@dataclass(frozen=True)
class MrOpticsRanges:
    """Acquisition and receiver; see `Receiver`."""

    acquired_mm: Pair = (1.2, 2.7)
    """Resolution in k-space along the frequency direction; the picture is interpolated to its pixels."""
    coarser_phase: Pair = (1.0, 1.5)
    """Factor of that resolution along the phase direction."""
    roll_off: Pair = (0.05, 0.9)
    """Share of k-space over which its window falls to zero; a sharp end rings (Gibbs)."""
    bias: Pair = (0.2, 2.0)
    ghost_share: float = 0.3
    ghost: Pair = (0.02, 0.1)
    wrap_share: float = 0.12
    wrap: Pair = (0.05, 0.2)
    """Share of the rows that is folded in from either side."""
    circle_share: float = 0.15
    """Share of series that are black outside a circle."""


@dataclass(frozen=True)
class GeometryRanges:
    """Grid and planes of a study; the default is the usual."""

    pixel_mm: Pair = (1.15, 1.9)
    thickness_mm: Pair = (5, 9)
    field_of_view_mm: Pair | None = None
    """Larger side of the picture; without it every picture has 176 rows and columns."""
    aspect: Pair = (1, 1)
    """Ratio of the smaller side to the larger one."""
    tilt_sd: float = 0.05
    """Deviation of the stack from the ideal axis, as a tangent."""
    turn_sd_deg: float = 12
    centre_sd_mm: float = 8
    breath_mm: Pair = (1.5, 1.5)
    """Deviation of a slice's shift between breath holds."""


@dataclass(frozen=True)
class MrRanges:
    """Ranges of all parameters of one scan. Without `heart`, `contrast` or `optics` the usual draws apply."""

    vendor: str | None = None
    """Name of the scanner, for ranges with a contrast of their own."""
    heart: MrHeartRanges | None = None
    contrast: ContrastRanges | None = None
    optics: MrOpticsRanges | None = None
    geometry: GeometryRanges = field(default_factory=GeometryRanges)


USUAL_MR = MrRanges()
_SCANNER = Field(
    myocardium=(0.16, 0.54), fat=(0.35, 2.2), blur_mm=(0.2, 1.1), noise=(0.01, 0.1), bias=1.0, banding=0.3, flow=0.3
)
_CONTRAST, _OPTICS = ContrastRanges(_SCANNER), MrOpticsRanges()
VARIED_MR = MrRanges(
    vendor="varied",
    heart=MrHeartRanges(),
    contrast=_CONTRAST,
    optics=_OPTICS,
    geometry=GeometryRanges(
        pixel_mm=(0.85, 2.2),
        thickness_mm=(4, 10),
        field_of_view_mm=(230, 420),
        aspect=(0.7, 1),
        tilt_sd=0.09,
        turn_sd_deg=22,
        centre_sd_mm=12,
        breath_mm=(0.5, 3.5),
    ),
)
UNSEEN_VENDORS = {
    "dull": replace(
        VARIED_MR, vendor="dull", contrast=replace(_CONTRAST, scanner=replace(_SCANNER, myocardium=(0.58, 0.68)))
    ),
    "shaded": replace(VARIED_MR, vendor="shaded", optics=replace(_OPTICS, bias=(2.2, 3.0))),
    "coarse": replace(
        VARIED_MR,
        vendor="coarse",
        optics=replace(_OPTICS, acquired_mm=(2.9, 3.4)),
        geometry=replace(VARIED_MR.geometry, pixel_mm=(2.25, 2.6)),
    ),
    "noisy": replace(
        VARIED_MR, vendor="noisy", contrast=replace(_CONTRAST, scanner=replace(_SCANNER, noise=(0.12, 0.16)))
    ),
}
"""Muscle nearly as bright as blood, strong bias, low resolution, much noise: each outside VARIED_MR, which no training
may learn from."""
