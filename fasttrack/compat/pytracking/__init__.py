"""What the modules of pytracking do, written anew on today's PyTorch.

``tensorlist`` and ``tensordict`` are the containers, ``complex`` and ``fourier`` the arithmetic of Fourier series,
``dcf`` the windows, labels and filters of discriminative correlation filters, ``preprocessing`` the image patches;
``operation`` convolves, ``filter`` applies target filters to sequences, ``optimization`` finds them.
Each is written from its definition: no code of pytracking is in here.
"""
