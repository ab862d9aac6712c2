"""Contrast of one MR series, and what muscle in its cavities looks like, drawn at random for a patient."""

from dataclasses import dataclass, replace

import numpy as np

from echoplane.phantom.anatomy import Part
from echoplane.phantom.chest import FAT, USUAL_TISSUES, Tissues
from echoplane.phantom.mr_patient import MrPatient
from echoplane.phantom.mr_ranges import ContrastRanges
from echoplane.phantom.mr_receiver import Receiver, varied_receiver

BLOOD_PARTS = (Part.RV_BLOOD, Part.RA_BLOOD, Part.LA_BLOOD, Part.LV_BLOOD, Part.AORTA_BLOOD, Part.PULMONARY_BLOOD)
PERICARDIUM_SIGNAL = (0.05, 0.25)
"""Signal of the pericardium, low in every sequence, so that the line around the heart is distinct from most muscle."""
PERICARDIUM_ED_MM = (0.7, 1.7)
"""Thickness of the pericardium on MR at end diastole, from one deviation below to one above the mean (Sechtem et al.,
AJR 1986; 147: 239)."""


@dataclass(frozen=True)
class Look:
    """Contrast of one series, drawn at random from its scanner's ranges; signals relative to the left ventricle's
    blood."""

    receiver: Receiver
    myocardium: float
    pericardium: float
    pericardium_mm: float
    """Thickness at end diastole."""
    flow: float
    trabeculae: float
    """Darkening of the cavity's outermost millimetres by trabeculae."""
    trabeculae_mm: float
    """Depth of the trabeculae in the cavity at end diastole."""
    trabeculae_from: float
    """Grain above which there are trabeculae: the lower, the more."""
    papillary_mm: float
    """Amount added to the radius of papillary muscles."""
    apex: float
    """Darkening of blood at the apex, where it hardly moves and the coil is far."""
    texture: int
    """Seed of the texture around the heart in this slice."""
    around: float
    """Factor of everything around the heart."""
    gain: float = 1.0
    """Factor of the whole slice."""
    tissues: Tissues = USUAL_TISSUES
    rv_blood: float = 1.0
    other_blood: float = 0.95
    blood_falls: float = 0.0
    """Loss of the blood's signal from end diastole to end systole."""
    liver: float | None = None
    """Liver among the parts of the anatomy; without it 1.3 of the myocardium."""
    rv_wall: float | None = None
    """Walls of right ventricle and atria; without it that of the myocardium."""
    spine: float = 0.55
    fingers: float = 0.0
    """Darkening of either ventricle's rim by fine trabeculae."""
    fingers_mm: float = 4.0
    band_mm: float = 0.0
    """Radius of the moderator band at end diastole."""
    effusion_mm: float = 0.0
    effusion: float = 1.0
    """Signal of the fluid in the pericardium."""
    effusion_deg: float = 0.0
    """Azimuth at which it is thickest."""

    def of(self, part: Part) -> float:
        """Returns the signal of a part of the anatomy."""
        if part in (Part.LV_BLOOD, Part.RV_BLOOD):
            return 1.0 if part == Part.LV_BLOOD else self.rv_blood
        if part in (*BLOOD_PARTS, Part.CAVA_BLOOD, Part.HEPATIC_VEIN):
            return self.other_blood
        special = {
            Part.PERICARDIUM: self.pericardium,
            Part.LIVER: 1.3 * self.myocardium if self.liver is None else self.liver,
            Part.HEART_WALL: self.myocardium if self.rv_wall is None else self.rv_wall,
            Part.SPINE: self.spine,
            Part.VALVE: 0.6,
        }
        return special.get(part, self.myocardium)


def draw_look(patient: MrPatient, rng: np.random.Generator) -> Look:
    """Returns the look of one slice: one scanner setting per patient; `rng` draws what differs from slice to slice."""
    own, field = np.random.default_rng([patient.seed, 45]), patient.scanner
    myocardium = float(own.uniform(*field.myocardium))
    fat = float(own.uniform(*field.fat))
    pericardium = float(own.uniform(*PERICARDIUM_SIGNAL))
    look = Look(
        receiver=Receiver(
            float(own.uniform(*field.blur_mm)), float(own.uniform(*field.noise)), field.bias, field.banding
        ),
        myocardium=myocardium,
        pericardium=pericardium,
        around=fat / FAT,
        flow=float(rng.uniform(0, field.flow)),
        trabeculae=float(own.uniform(0, 1)) * (1 - myocardium),
        trabeculae_mm=float(own.uniform(3, 9)),
        trabeculae_from=float(own.uniform(-0.2, 0.6)),
        papillary_mm=float(own.uniform(-1.5, 2)),
        apex=float(own.uniform(0, 0.4)),
        pericardium_mm=float(own.uniform(*PERICARDIUM_ED_MM)),
        texture=int(rng.integers(2**31)),
    )
    if contrast := patient.ranges.contrast:
        look = _varied(look, fat, contrast, np.random.default_rng([patient.seed, 47]), rng)
    if optics := patient.ranges.optics:
        receiver = varied_receiver(look.receiver, optics, np.random.default_rng([patient.seed, 48]))
        look = replace(look, receiver=receiver)
    return look


def _varied(look: Look, fat: float, ranges: ContrastRanges, own: np.random.Generator, rng: np.random.Generator) -> Look:
    """Returns the look with signals of every tissue drawn anew; `own` draws the series', `rng` the slice's."""
    myocardium = look.myocardium
    opposed = own.random() < ranges.opposed_share
    opposed_mm = float(own.uniform(*ranges.opposed_pericardium_mm))
    liver = myocardium * float(own.uniform(*ranges.liver))
    tissues = Tissues(
        fat=-fat if opposed else fat,
        muscle=myocardium * float(own.uniform(*ranges.skeletal)),
        lung=float(own.uniform(*ranges.lung)),
        liver=liver,
    )
    effusion_mm = float(own.uniform(*ranges.effusion_mm))
    return replace(
        look,
        around=1.0,
        gain=float(np.exp(rng.normal(0, ranges.slice_gain_sd))),
        tissues=tissues,
        liver=liver,
        pericardium_mm=opposed_mm if opposed else look.pericardium_mm,
        rv_blood=float(own.uniform(*ranges.rv_blood)),
        other_blood=float(own.uniform(*ranges.other_blood)),
        blood_falls=float(own.uniform(*ranges.blood_falls)),
        rv_wall=myocardium * float(own.uniform(*ranges.rv_wall)),
        spine=float(own.uniform(*ranges.spine)),
        fingers=float(own.uniform(*ranges.fingers)) * (1 - myocardium),
        fingers_mm=float(own.uniform(*ranges.fingers_mm)),
        band_mm=float(own.uniform(*ranges.band_mm)),
        effusion_mm=effusion_mm * (own.random() < ranges.effusion_share),
        effusion=float(own.uniform(*ranges.effusion)),
        effusion_deg=float(own.normal(240, 60)),
    )
