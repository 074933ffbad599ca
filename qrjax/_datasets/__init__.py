"""Datasets: scikit-learn's digits, and MNIST, CIFAR-10 and IMDB from local files as they are published."""
