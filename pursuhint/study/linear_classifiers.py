"""Linear classifiers on the embeddings of a frozen network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pursuhint._util.seeds import derived_generator
from pursuhint._util.warn_user import warn_user
from pursuhint.data import ImageData, Loader, make_loader
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.study.embeddings import Embedded, embed_split
from pursuhint.study.transfer_settings import TransferSettings

BATCH = 64
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
DEVIATION = 0.01
"""Of the linear layer's first weights."""

_LR = 0.05
_LR_OF_SMALL_NETWORKS = 0.01
_SMALL_NETWORKS = ("MobileNetV2", "ShuffleV1", "ShuffleV2")
_EVALUATION_BATCH = 256
_SOLVER_STEPS = 1000


def learning_rate(network: str, lr: float | None) -> float:
    """The learning rate of the linear layer: as given, else the authors' for a student of this name."""
    if lr is not None:
        return lr
    return _LR_OF_SMALL_NETWORKS if network in _SMALL_NETWORKS else _LR


class FrozenStudent:
    """A student that is not trained any more, and a data set that it is to describe.

    The embeddings without augmentation and in evaluation mode are computed once.

    Args:
        network: on the device.
        data: of the network's image size and channels.
        device: of the network.
        workers: processes that decode files.
    """

    def __init__(self, network: nn.Module, data: ImageData, device: torch.device, workers: int = 0) -> None:
        self.network, self.data, self.device, self.workers = network, data, device, workers
        self._cached: dict[str, Embedded] = {}

    def embedded(self, split: str) -> Embedded:
        """``train`` or ``test`` in the order of the split, in evaluation mode."""
        if split not in self._cached:
            self._cached[split] = embed_split(self.network, self._loader(split))
        return self._cached[split]

    def sgd(self, settings: TransferSettings, lr: float) -> Tensor:
        """Train a linear layer and predict the test images.

        SGD with momentum 0.9, weight decay 5e-4, batches of 64, a constant learning rate, weights drawn from
        N(0, 0.01²), no bias at first. Source: transfer to STL-10 and Tiny ImageNet in ICD, table 3; the
        authors' schedule decays after epoch 150 only, later than its 100 epochs end.

        Returns:
            Predicted labels, (test images,), on the CPU.

        Raises:
            PursuhintError: it diverged.
        """
        network = copy.deepcopy(self.network) if settings.drift else self.network
        runs_again = settings.augment or settings.drift
        epochs = self._epochs(network, settings) if runs_again else self._cached_epochs(settings)
        head: nn.Linear | None = None
        for features, labels in epochs:
            if head is None:
                head = self._head(features.shape[1], settings.seed)
                optimizer = torch.optim.SGD(
                    head.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
                )
            loss = F.cross_entropy(head(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert head is not None
        if not all(bool(values.isfinite().all()) for values in head.parameters()):
            raise PursuhintError(
                f"the linear layer on {self.data.name} diverged with a learning rate of {lr:g}; give a lower "
                "one (--lr)"
            )
        test = embed_split(network, self._loader("test")) if settings.drift else self.embedded("test")
        with torch.no_grad():
            return head(test.features).argmax(dim=1).cpu()

    def logistic(self) -> Tensor:
        """Fit scikit-learn's logistic regression (L2, C = 1) to standardized features; predict test images.

        Returns:
            Predicted labels, (test images,).

        Raises:
            PursuhintError: the training images are of one class.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        train, test = self.embedded("train"), self.embedded("test")
        labels = train.labels.cpu().numpy()
        if len(set(labels.tolist())) < 2:
            raise PursuhintError(f"the training images of {self.data.name} are of one class; two are needed")
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_SOLVER_STEPS))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(train.features.double().cpu().numpy(), labels)
        if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
            warn_user(
                f"the logistic regression on {self.data.name} did not converge in {_SOLVER_STEPS} steps"
            )
        return torch.from_numpy(model.predict(test.features.double().cpu().numpy()))

    def _head(self, width: int, seed: int) -> nn.Linear:
        head = nn.utils.skip_init(nn.Linear, width, self.data.num_classes)
        with torch.no_grad():
            head.weight.normal_(0, DEVIATION, generator=derived_generator("linear classifier", seed))
            head.bias.zero_()
        return head.to(self.device)

    def _cached_epochs(self, settings: TransferSettings) -> Iterator[tuple[Tensor, Tensor]]:
        train = self.embedded("train")
        for epoch in range(settings.epochs):
            order = torch.randperm(
                len(train.labels), generator=derived_generator("order", settings.seed, epoch)
            )
            for part in order.to(self.device).split(BATCH):
                yield train.features[part], train.labels[part]

    def _epochs(self, network: nn.Module, settings: TransferSettings) -> Iterator[tuple[Tensor, Tensor]]:
        samples = len(self.data.train)
        loader = make_loader(
            self.data,
            "train",
            batch_size=BATCH,
            training=True,
            augment=settings.augment,
            seed=settings.seed,
            device=self.device,
            workers=self.workers,
            drop_last=samples > BATCH and samples % BATCH == 1,  # batch norms have no variance over one image
        )
        read = FeatureExtractor(network, logits=False, embedding=True)
        with evaluating(network):
            for epoch in range(settings.epochs):
                for batch in loader.epoch(epoch):
                    network.train(settings.drift)
                    with torch.no_grad():
                        features = read(batch.images).embedding
                    assert features is not None
                    yield features, batch.labels

    def _loader(self, split: str) -> Loader:
        return make_loader(
            self.data,
            split,
            batch_size=_EVALUATION_BATCH,
            training=False,
            device=self.device,
            workers=self.workers,
        )
