"""lisard_ros: perception for ROS 2 whose models resist adversarial perturbations, and which proves it on the vehicle.

This package is the runtime. Importing it needs neither ROS, nor torch, nor TensorRT.
"""

__version__ = "0.1.0"
