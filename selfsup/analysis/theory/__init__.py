"""The theory of siamese learning without negatives in linear networks (Tian et al. 2021, arXiv:2102.06810).

Their equations as NumPy functions, and solutions by SciPy:
  - `Constants`: the constants of the equations, from the settings of a run;
  - `modes`: each eigenvector of F on its own, with fixed points, collapse threshold and basin;
  - `matrices`: W_p and F as matrices, and the weights of the whole network;
  - `practice`: Theorem 1 and the square-root law in the recordings of a run;
  - `prediction`: its modes as the equations predict them;
  - `linear_networks`: linear networks that this package trains; it needs Keras and is not imported here.

An eigenvalue s of the theory is u^T E[z1 z2^T] u, the part of F that both views share: that of F itself is
(1 + sigma^2) s, where sigma^2 is the variance between the views relative to the shared one.
"""

from selfsup.analysis.theory.constants import Constants as Constants
from selfsup.analysis.theory.matrices import Networks as Networks
from selfsup.analysis.theory.matrices import commutator as commutator
from selfsup.analysis.theory.matrices import commutator_rate as commutator_rate
from selfsup.analysis.theory.matrices import imbalance as imbalance
from selfsup.analysis.theory.matrices import imbalance_decay as imbalance_decay
from selfsup.analysis.theory.matrices import matrix_rates as matrix_rates
from selfsup.analysis.theory.matrices import network_rates as network_rates
from selfsup.analysis.theory.matrices import solve_matrices as solve_matrices
from selfsup.analysis.theory.matrices import solve_networks as solve_networks
from selfsup.analysis.theory.modes import Modes as Modes
from selfsup.analysis.theory.modes import basin_boundary as basin_boundary
from selfsup.analysis.theory.modes import collapse_threshold as collapse_threshold
from selfsup.analysis.theory.modes import fixed_points as fixed_points
from selfsup.analysis.theory.modes import invariant as invariant
from selfsup.analysis.theory.modes import mode_rates as mode_rates
from selfsup.analysis.theory.modes import solve_modes as solve_modes
from selfsup.analysis.theory.practice import Conservation as Conservation
from selfsup.analysis.theory.practice import PowerLaw as PowerLaw
from selfsup.analysis.theory.practice import conservation as conservation
from selfsup.analysis.theory.practice import fit_power_law as fit_power_law
from selfsup.analysis.theory.practice import leading_modes as leading_modes
from selfsup.analysis.theory.practice import noise_floor as noise_floor
from selfsup.analysis.theory.practice import power_laws as power_laws
from selfsup.analysis.theory.prediction import Assumptions as Assumptions
from selfsup.analysis.theory.prediction import Prediction as Prediction
from selfsup.analysis.theory.prediction import assumptions as assumptions
from selfsup.analysis.theory.prediction import predict as predict
from selfsup.analysis.theory.prediction import skill as skill
