from .folds import CurveFold as CurveFold
from .folds import CurveSettings as CurveSettings
from .folds import draw_curve_fold as draw_curve_fold
from .learning import curve_dataset as curve_dataset
from .learning import learning_curve as learning_curve
from .records import curve_records as curve_records
