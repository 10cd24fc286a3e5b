"""Parts that several families of classifiers share."""
