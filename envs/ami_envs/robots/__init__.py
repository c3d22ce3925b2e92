"""The robots: a body in `assets/bodies/` and a class that drives it."""

from ami_envs.robots.arm7 import Arm7
from ami_envs.robots.base import Manipulator, Robot
from ami_envs.robots.car import Car
from ami_envs.robots.gantry import Gantry
from ami_envs.robots.rover import Rover

ROBOTS: dict[str, type[Robot]] = {"gantry": Gantry, "arm7": Arm7, "rover": Rover, "car": Car}

__all__ = ["ROBOTS", "Arm7", "Car", "Gantry", "Manipulator", "Robot", "Rover"]
