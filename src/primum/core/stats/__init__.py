"""Statistics: pure numbers to numbers; knows nothing of records, prompts or models.

Shares are counted as k of n. Every estimate is an `Interval`; a two-sided interval at confidence 1 - 2a gives both
one-sided limits at 1 - a.
"""

from primum.core.stats.agreement import cohen_kappa, fleiss_kappa, gwet_ac1
from primum.core.stats.detection import d_prime
from primum.core.stats.paired import (
    PairedTable,
    Sums,
    bonett_price,
    fieller,
    mcnemar_exact,
    mde,
    mde_mean,
    needed_pairs,
    paired_contrast,
    paired_mean,
    paired_ratio,
    ratio_of_sums,
    ratio_residuals,
)
from primum.core.stats.proportions import (
    Interval,
    clopper_pearson,
    newcombe,
    rogan_gladen,
    wilson,
    z_value,
)

__all__ = [
    "Interval",
    "PairedTable",
    "Sums",
    "bonett_price",
    "clopper_pearson",
    "cohen_kappa",
    "d_prime",
    "fieller",
    "fleiss_kappa",
    "gwet_ac1",
    "mcnemar_exact",
    "mde",
    "mde_mean",
    "needed_pairs",
    "newcombe",
    "paired_contrast",
    "paired_mean",
    "paired_ratio",
    "ratio_of_sums",
    "ratio_residuals",
    "rogan_gladen",
    "wilson",
    "z_value",
]
