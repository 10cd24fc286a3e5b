"""Parts that several families for segmentation share."""
