"""lisard_trainer: training, evaluation and export of LISArD models. The runtime (lisard_ros) never imports it.

What passes from here to the vehicle is a model bundle (lisard_ros.bundle), nothing else.
"""
