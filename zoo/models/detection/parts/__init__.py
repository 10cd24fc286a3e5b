"""Parts that several families for detection share; each two-stage detector is a composition."""
