"""Physical worlds with senses for embodied agents, on MuJoCo; `import ami_envs` registers them with Gymnasium."""

from ami_envs.core import Task, WorldEnv
from ami_envs.registry import register, register_all
from ami_envs.senses import Sensor

register_all()

__all__ = ["Sensor", "Task", "WorldEnv", "register"]
