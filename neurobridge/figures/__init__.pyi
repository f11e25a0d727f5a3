from .plots import accuracies as accuracies
from .plots import contact_sheet as contact_sheet
from .plots import layer_profile as layer_profile
from .plots import learning_curve as learning_curve
from .plots import save_figure as save_figure
from .plots import sites as sites
from .rsa import rsa_models as rsa_models
from .styles import STYLES as STYLES
