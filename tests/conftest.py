"""Tests run beside other work: one thread of torch each."""

import torch

torch.set_num_threads(1)
