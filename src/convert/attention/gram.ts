// What all Cholesky factors of Gram matrices of a head's weights have in common.

/** Smallest relative pivot: dependent columns of the weights are common and harmless. */
export const PIVOT_FLOOR = 1e-12;
