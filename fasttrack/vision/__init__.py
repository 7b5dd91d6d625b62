"""From frame to feature map: crops, labels, features, localisation, and the weights they need."""
