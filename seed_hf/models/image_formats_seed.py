# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Which image files are read, and what their names end in; readers and writers of data sets share this list."""

# Pillow's name of each format, and its file suffixes, the one to write first. Left out are formats that make Pillow
# run a program (EPS), need the operating system or another library to draw (WMF, FPX, MIC, BUFR, GRIB, HDF5), hold an
# image whose format or size is known only once it is decoded (IPTC, ICNS, BLP), unpack without a bound (FITS), or have
# no signature and hold measurements (SPIDER, IMT, MCIDAS). TGA has no signature either, so it is tried last.
IMAGE_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "MPO": (".mpo",),  # several JPEGs in one file, from phones; read as JPEG
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "ICO": (".ico",),
    "CUR": (".cur",),
    "DIB": (".dib",),
    "DDS": (".dds",),
    "SGI": (".sgi", ".bw", ".rgb", ".rgba"),
    "PCX": (".pcx",),
    "DCX": (".dcx",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SUN": (".ras",),
    "MSP": (".msp",),
    "PIXAR": (".pxr",),
    "FTEX": (".ftc", ".ftu"),
    "GBR": (".gbr",),
    "FLI": (".fli", ".flc"),
    "IM": (".im",),
    "PCD": (".pcd",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
}
IMAGE_SUFFIXES = tuple(suffix for suffixes in IMAGE_FORMATS.values() for suffix in suffixes)
