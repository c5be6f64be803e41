"""Noise schedules of the diffusion.

T diffusion steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SigmoidSchedule(nn.Module):
    r"""The discrete schedule of the paper: the variance added by a step is a sigmoid of the step.

    .. math:: \beta_t = \mathrm{sigmoid}(s_t)\,(\beta_{max} - \beta_{min}) + \beta_{min},\quad
        s_t\ \text{evenly spaced in}\ [-6, 6]

    and :math:`\bar\alpha_t = \prod_{i \le t} (1 - \beta_i)`. Computed in float64. The tables are buffers, so they
    follow the module to its device; they are not saved, the config says all there is to know.

    Args:
        steps: Number of steps T.
        beta_min: Variance of the first step, about.
        beta_max: Variance of the last step, about.

    Example:
        >>> schedule = SigmoidSchedule(100, 1e-5, 0.1)
        >>> schedule.betas.shape, round(float(schedule.alphas_cumprod[-1].sqrt()), 3)
        (torch.Size([100]), 0.073)
    """

    betas: Tensor
    alphas_cumprod: Tensor

    def __init__(self, steps: int, beta_min: float, beta_max: float):
        super().__init__()
        s = torch.linspace(-6, 6, steps, dtype=torch.float64)
        betas = torch.sigmoid(s) * (beta_max - beta_min) + beta_min  # (T,)
        self.register_buffer("betas", betas.float(), persistent=False)
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0).float(), persistent=False)  # (T,)

    def __len__(self) -> int:
        return len(self.betas)

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        r"""Noise x_0 to step t in one jump.

        .. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon

        Reference: Ho et al. 2020, eq. 4.

        Args:
            x_0: Clean values, standardised, (..., dim).
            t: Steps in 0 .. T-1, (...).
            noise: Standard normal, (..., dim).

        Returns:
            Noisy values, (..., dim).
        """
        alpha_bar = self.alphas_cumprod[t].unsqueeze(-1)  # (..., 1)
        return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise

    def p_mean(self, x_t: Tensor, t: int, noise: Tensor) -> Tensor:
        r"""Mean of x_{t-1} given x_t and the predicted noise.

        .. math:: \mu = \frac{1}{\sqrt{1 - \beta_t}}
            \left(x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\, \epsilon\right)

        Reference: Ho et al. 2020, algorithm 2.

        Args:
            x_t: Noisy values at step t, any shape.
            t: The step, 0 .. T-1.
            noise: The noise predicted in x_t, shape of x_t.

        Returns:
            The mean, shape of x_t.
        """
        beta = self.betas[t]
        return (x_t - beta / (1 - self.alphas_cumprod[t]).sqrt() * noise) / (1 - beta).sqrt()
