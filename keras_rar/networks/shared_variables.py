"""A model that computes with the variables of a network, and has none of its own."""

from typing import Any

import keras


class LayersError(AttributeError):
    """The layers of a model were read that is computed by no list of layers."""


class SharedVariables(keras.Model):
    """What a network is computed by in another way: its variables are those of the network. It is not to be saved.

    Args:
        network: A built Keras model.
        name: Name of this one.

    Attributes:
        same_inputs: Whether it takes the inputs of the network.
    """

    network: keras.Model
    same_inputs = True

    def __init__(self, network: keras.Model, name: str):
        super().__init__(name=name, dtype=network.dtype_policy, autocast=False)
        self.__dict__["network"] = network  # no layer of this one: Keras would clear the losses of its layers
        self.built = True

    @property
    def layers(self) -> list[Any]:
        """Refused: it is computed by no list of layers, and a loop over none would silently return its input."""
        raise LayersError(
            f"The layers of {self.name!r} cannot be read: it computes {self.network.name!r} in another way. A saliency "
            "function that reads layers needs softplus_beta=None, or a `gradient_model` of its own."
        )

    @property
    def variables(self) -> list[Any]:
        return self.network.variables

    @property
    def weights(self) -> list[Any]:
        return self.network.weights

    @property
    def trainable_variables(self) -> list[Any]:
        return self.network.trainable_variables

    @property
    def trainable_weights(self) -> list[Any]:
        return self.network.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Any]:
        return self.network.non_trainable_variables
