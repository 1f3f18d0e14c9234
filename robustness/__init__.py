"""The question: how robust is an image classifier, perturbed how, at which λ?"""
