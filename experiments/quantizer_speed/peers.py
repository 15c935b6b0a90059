"""Times plain PyTorch, vector-quantize-pytorch and faiss; as `ours.py`."""

import json
import sys

from task import CLUSTERS, ITERATIONS, THREADS, best, blobs, inertia, normal


def plain(_: str) -> dict:
  """The least that PyTorch can do: distances, argmin, residual, by level."""
  import torch

  torch.set_num_threads(THREADS)
  latents, books = map(torch.from_numpy, normal())
  latents = latents.reshape(-1, latents.shape[-1])
  lengths = books.square().sum(-1)
  turned = books.transpose(1, 2).contiguous()

  @torch.inference_mode()
  def codes():
    residual, chosen = latents, []
    for level, book in enumerate(books):
      scores = lengths[level] - 2 * (residual @ turned[level])
      chosen.append(scores.argmin(-1))
      residual = residual - book[chosen[-1]]
    return torch.stack(chosen, -1)

  return {'seconds': best(codes)[0], 'torch': torch.__version__}


def library(variant: str) -> dict:
  """ResidualVQ of vector-quantize-pytorch, with its own defaults."""
  import importlib.metadata

  import torch
  from vector_quantize_pytorch import ResidualVQ

  torch.set_num_threads(THREADS)
  latents, books = map(torch.from_numpy, normal())
  quantizer = ResidualVQ(
    dim=books.shape[2],
    codebook_size=books.shape[1],
    num_quantizers=len(books),
    decay=0.95,
    rotation_trick=False,
  )
  quantizer.train(variant == 'rvq_train')

  def step():
    if variant == 'rvq_eval':
      with torch.inference_mode():
        return quantizer(latents)
    x = latents.clone().requires_grad_(True)
    values, _, commitment = quantizer(x)
    return (values.square().mean() + commitment.sum()).backward()

  version = importlib.metadata.version('vector-quantize-pytorch')
  return {'seconds': best(step)[0], 'vector-quantize-pytorch': version}


def faiss_fit(_: str) -> dict:
  """faiss.Kmeans on all points."""
  import faiss

  faiss.omp_set_num_threads(THREADS)
  points = blobs()
  fit = faiss.Kmeans(
    points.shape[1],
    CLUSTERS,
    niter=ITERATIONS,
    seed=1,
    max_points_per_centroid=len(points),
  )
  seconds, _ = best(lambda: fit.train(points))
  return {
    'seconds': seconds,
    'inertia': inertia(points, fit.centroids),
    'faiss': faiss.__version__,
  }


VARIANTS = {
  'plain': plain,
  'rvq_eval': library,
  'rvq_train': library,
  'kmeans': faiss_fit,
}

if __name__ == '__main__':
  name = sys.argv[1]
  print(json.dumps(VARIANTS[name](name)))
