"""The builder of host images: a recipe and Debian packages in, a kernel and an initrd out, the same every time."""
