"""Ranges from which the parameters of one ultrasound scan are drawn at random: the patient, the sonographer's hand, the
machine and the picture.

USUAL is the careful lab of the demo. WIDE is for networks that must classify real pictures: anatomy, pose and framing
vary together with optics, echogenicity and defects, since none of these alone transfers to real patients
(docs/views.md). HAZY is WIDE with poses that leave adjacent views apart, brighter walls and chambers that are often
filled; BEDSIDE has thinner walls, finer speckle that is partly removed, less haze and fewer defects besides; CLINIC
has larger right ventricles and frames apical views as sonographers do. A pair is a uniform range (low, high); `_sd` is
a standard deviation around the usual value.
"""

from dataclasses import dataclass, field, replace

Pair = tuple[float, float]


@dataclass(frozen=True)
class HeartRanges:
    """Sizes and function at end diastole; see `Heart`."""

    ef: tuple[float, float, float] = (0.30, 0.60, 0.70)
    """Minimum, mode and maximum of a triangular distribution."""
    edv_ml: Pair = (75, 135)
    lv_length_sd_mm: float = 3.5
    wall_mm: Pair = (8, 11.5)
    heart_rate_bpm: Pair = (50, 110)
    rv_size: Pair = (0.92, 1.1)
    la_radius_mm: Pair = (18, 23)
    ra_radius_mm: Pair = (18, 22)
    aorta_radius_mm: Pair = (13, 16.5)
    ivc_radius_mm: Pair = (7.5, 11)
    outflow_deg: Pair = (36, 46)
    tilt_sd_deg: float = 4
    window_mm: Pair = (12, 20)
    unevenness_mm: Pair = (1.1, 1.1)
    """Height of the bulges in the walls of atria and right ventricle."""
    atrial_axes: tuple[Pair, Pair, Pair] = ((1, 1), (1, 1), (1.15, 1.15))
    """Semi-axes of each atrium as factors of its radius."""
    papillary_size: Pair = (1, 1)


@dataclass(frozen=True)
class ApicalRanges:
    """Framing of apical views. The left ventricle lies right of the middle, so that the septum or the inferior wall is
    near it; views are told apart at the base, hence five and three chambers are never cut there."""

    slide_mm: Pair
    """Displacement of the probe to the left of the screen."""
    turn_deg: Pair
    """Turn of the base to the right of the screen."""
    filling: Pair
    """Share of the depth from the skin to the mitral valve, in two and four chambers."""
    outflow_filling: Pair
    """The same in three and five chambers, whose outflow tract must be seen."""


@dataclass(frozen=True)
class HandRanges:
    """Standard deviations of the probe's pose around the ideal one."""

    origin_mm: float = 2.0
    target_mm: float = 2.0
    swing_tilt_spin_deg: tuple[float, float, float] = (3.0, 1.5, 3.0)
    apical: ApicalRanges | None = None
    """Framing of apical views; None for probes over the apex, aimed at the base, at any depth."""


@dataclass(frozen=True)
class OpticsRanges:
    """Settings of the machine, and transmission of the skin; see `Optics`."""

    depth_mm: tuple[float, ...] = (150, 155, 160, 165, 170, 175, 180)
    """Values to choose from."""
    half_angle_deg: Pair = (36, 44)
    frequency_mhz: Pair = (1.7, 3.2)
    gain_sd_db: float = 2.5
    dynamic_range_db: Pair = (46, 60)
    tgc_sd_db: float = 1.5
    clutter_db: Pair = (-44, -30)
    noise_db: Pair = (-62, -52)
    persistence: Pair = (0.0, 0.15)


@dataclass(frozen=True)
class LookRanges:
    """Echogenicity of tissue and blood; see `Look`."""

    blood_db: Pair
    walls_db: Pair
    """Change shared by all walls."""
    part_db: Pair
    """Further change of each part."""
    soft_db: Pair
    """Change of the tissue around the heart."""
    impedance: Pair
    """Factor of every part's difference from blood: the strength of mirror echoes."""
    facing_floor: Pair
    facing_slope: Pair
    far_floor: Pair
    far_decay_mm: Pair
    edge_per_mm: Pair
    fade_share: float
    """Share of scans in which a thin part (valves, pericardium, papillaries, walls of atria) is fainter."""
    fade_db: Pair
    filled_share: float
    """Share of scans in which clutter fills an atrium or the right ventricle."""
    filled_db: Pair
    patchiness: Pair | None = None
    """Factor of the unevenness of every part: walls of real hearts are seen in patches."""


@dataclass(frozen=True)
class DefectRanges:
    """Defects of parts of the picture; see `Defects`."""

    point_spread: Pair
    lost_contact_share: float
    """Share of scans in which one side of the probe has no contact."""
    regional_gain_db: Pair
    dropouts: int
    """Maximum number of regions that drop out."""
    dropout_db: Pair
    haze_share: float
    haze_db: Pair
    haze_decay_mm: Pair
    far_gain_db: Pair = (0, 0)
    """Change of gain from the skin to the full depth."""
    smoothing: Pair = (0, 0)
    """Share of the picture from which speckle is removed, as machines do."""
    side_gain_db: Pair | None = None
    """Difference of gain between the right and the left edge of the sector: one wall is bright, the other drops out."""


@dataclass(frozen=True)
class Ranges:
    """Ranges of all parameters of one scan. Without `look` or `defects` those of the usual scan apply."""

    heart: HeartRanges = field(default_factory=HeartRanges)
    hand: HandRanges = field(default_factory=HandRanges)
    optics: OpticsRanges = field(default_factory=OpticsRanges)
    look: LookRanges | None = None
    defects: DefectRanges | None = None


USUAL = Ranges()
_WIDE_LOOK = LookRanges(
    blood_db=(-58, -36),
    walls_db=(-3, 3),
    part_db=(-2.5, 2.5),
    soft_db=(-6, 6),
    impedance=(0.4, 1.6),
    facing_floor=(0.08, 0.8),
    facing_slope=(0.3, 1.1),
    far_floor=(0.05, 0.9),
    far_decay_mm=(10, 60),
    edge_per_mm=(0.2, 0.6),
    fade_share=0.35,
    fade_db=(4, 20),
    filled_share=0.2,
    filled_db=(-40, -26),
)
_WIDE_DEFECTS = DefectRanges(
    point_spread=(0.7, 1.5),
    lost_contact_share=0.35,
    regional_gain_db=(1, 5),
    dropouts=3,
    dropout_db=(6, 22),
    haze_share=0.6,
    haze_db=(-50, -28),
    haze_decay_mm=(15, 150),
)
WIDE = Ranges(
    heart=HeartRanges(
        ef=(0.18, 0.57, 0.75),
        edv_ml=(60, 185),
        lv_length_sd_mm=6,
        wall_mm=(6, 13),
        heart_rate_bpm=(45, 130),
        rv_size=(0.8, 1.3),
        la_radius_mm=(15, 28),
        ra_radius_mm=(14, 26),
        aorta_radius_mm=(11.5, 19),
        ivc_radius_mm=(6, 13),
        outflow_deg=(30, 52),
        tilt_sd_deg=8,
        window_mm=(6, 26),
        unevenness_mm=(0.5, 3.0),
        atrial_axes=((0.8, 1.25), (0.8, 1.25), (0.85, 1.4)),
        papillary_size=(0.4, 1.2),
    ),
    hand=HandRanges(origin_mm=5, target_mm=5, swing_tilt_spin_deg=(7, 3.5, 8)),
    optics=OpticsRanges(
        depth_mm=tuple(range(105, 196, 5)),
        half_angle_deg=(33, 52),
        frequency_mhz=(1.4, 4.0),
        gain_sd_db=3.5,
        dynamic_range_db=(42, 68),
        tgc_sd_db=2.5,
        clutter_db=(-46, -26),
        noise_db=(-68, -48),
        persistence=(0.0, 0.4),
    ),
    look=_WIDE_LOOK,
    defects=_WIDE_DEFECTS,
)
HAZY = replace(
    WIDE,
    heart=replace(WIDE.heart, tilt_sd_deg=6),
    hand=HandRanges(origin_mm=3.5, target_mm=3.5, swing_tilt_spin_deg=(7, 2, 6)),
    look=replace(
        _WIDE_LOOK,
        walls_db=(-3, 6),
        soft_db=(-16, 5),
        far_decay_mm=(6, 60),
        fade_share=0.4,
        filled_share=0.4,
        filled_db=(-42, -28),
    ),
    defects=replace(_WIDE_DEFECTS, far_gain_db=(-6, 12), smoothing=(0, 1), haze_share=0.5),
)
BEDSIDE = replace(
    WIDE,
    heart=replace(WIDE.heart, edv_ml=(65, 190), wall_mm=(6, 11), tilt_sd_deg=5, ef=(0.2, 0.57, 0.72)),
    hand=HandRanges(origin_mm=3, target_mm=3, swing_tilt_spin_deg=(6, 1.5, 4)),
    optics=replace(
        WIDE.optics,
        depth_mm=tuple(range(110, 191, 5)),
        half_angle_deg=(34, 48),
        frequency_mhz=(1.8, 4.2),
        gain_sd_db=3,
        dynamic_range_db=(44, 66),
        clutter_db=(-46, -30),
        noise_db=(-70, -52),
    ),
    look=replace(
        _WIDE_LOOK,
        blood_db=(-60, -40),
        walls_db=(-2, 6),
        soft_db=(-14, 3),
        far_decay_mm=(6, 50),
        filled_share=0.25,
        filled_db=(-44, -30),
    ),
    defects=replace(
        _WIDE_DEFECTS,
        point_spread=(0.6, 1.2),
        lost_contact_share=0.25,
        regional_gain_db=(1, 4),
        dropouts=2,
        haze_share=0.4,
        haze_db=(-54, -34),
        far_gain_db=(-4, 12),
        smoothing=(0.2, 1),
    ),
)
CLINIC = replace(
    BEDSIDE,
    heart=replace(
        BEDSIDE.heart,
        rv_size=(0.9, 1.5),
        unevenness_mm=(0.5, 4.0),
        atrial_axes=((0.75, 1.3), (0.75, 1.3), (0.75, 1.4)),
    ),
    hand=replace(BEDSIDE.hand, apical=ApicalRanges((-3, 14), (-2, 9), (0.46, 0.9), (0.46, 0.72))),
    look=replace(BEDSIDE.look, far_floor=(0.05, 2.2), patchiness=(1, 3.5)) if BEDSIDE.look else None,
    defects=replace(BEDSIDE.defects, side_gain_db=(-14, 8), regional_gain_db=(1, 6), dropouts=4)
    if BEDSIDE.defects
    else None,
)
