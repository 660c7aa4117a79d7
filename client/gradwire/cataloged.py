"""What tensors have from the catalog; see the stub beside this file."""


class CatalogedMethods:
    """Base of tensors: `gradwire.methods` gives it a method for each row of the catalog."""
