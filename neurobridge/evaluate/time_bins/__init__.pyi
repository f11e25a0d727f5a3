from .clusters import cluster_test as cluster_test
from .courses import find_clusters as find_clusters
from .courses import time_course as time_course
