"""VGG (Simonyan, Zisserman 2014, arXiv 1409.1556) for 32 x 32 images."""

from flax import linen as nn

from .network import Network, images


class VGG(nn.Module):
    """Stages of 3 x 3 convolutions with relu, a maximum pool after each, then dense layers with dropout."""

    stages: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256, 256, 256), (256, 256, 256))
    width: int = 512
    classes: int = 10
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, train: bool):
        for stage in self.stages:
            for features in stage:
                x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
            x = nn.Dropout(self.rate, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)


# The maximum of four positively correlated relus raises mean and power by an amount that depends on that correlation;
# zero padding takes power away, the more the smaller the image: at 4 x 4, three pixels in four lie on the border.
NETWORKS = [Network("vgg", VGG, images, {"train": True}, ("dropout",))]
