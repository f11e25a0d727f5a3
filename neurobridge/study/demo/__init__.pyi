from .job import run_demo as run_demo
from .task import DATASETS as DATASETS
from .task import SIMULATED as SIMULATED
from .task import DemoConfig as DemoConfig
