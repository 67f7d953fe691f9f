"""Small archives in the layout of the official ones."""

import io
import tarfile
import zipfile

from PIL import Image

ROI = "Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"


def encoded(color, size=(40, 36), format="PPM"):
    """An image of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, color).save(content, format, **({"quality": 95} if format == "JPEG" else {}))
    return content.getvalue()


def zipped(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def tarred(path, entries):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def signs(folder, training=None, test=None, table=None):
    """The three archives: a class's images have its number for red, those of the test their own for green."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {0: 42, 1: 7, 2: 0} if table is None else table
    root = "GTSRB/Final_Training/Images"
    entries = {f"{root}/Readme.txt": b"about"}
    for label in (0, 7, 42):
        entries[f"{root}/{label:05d}/GT-{label:05d}.csv"] = f"Filename;{ROI};ClassId\n".encode()
        entries |= {f"{root}/{label:05d}/00000_{row:05d}.ppm": encoded((label, row, 0)) for row in range(2)}
    zipped(folder / "GTSRB_Final_Training_Images.zip", entries | (training or {}))
    root = "GTSRB/Final_Test/Images"
    entries = {f"{root}/{row:05d}.ppm": encoded((0, row, 9), size=(20 + row, 33)) for row in (2, 0, 1)}
    entries[f"{root}/GT-final_test.test.csv"] = b"Filename;Width\n00000.ppm;20\n"
    zipped(folder / "GTSRB_Final_Test_Images.zip", entries | (test or {}))
    rows = "".join(f"{row:05d}.ppm;20;33;5;5;15;28;{label}\r\n" for row, label in table.items())
    zipped(folder / "GTSRB_Final_Test_GT.zip", {"GT-final_test.csv": f"Filename;{ROI};ClassId\r\n{rows}"})
    return folder


def flowers(folder, more=None):
    """All 1,360 photographs, small: a class has a red of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [encoded((15 * label, 0, 0), size=(10, 8), format="JPEG") for label in range(17)]
    entries = {"jpg/files.txt": b"image_0001.jpg\n"}
    entries |= {f"jpg/image_{row + 1:04d}.jpg": images[row // 80] for row in range(1360)}
    tarred(folder / "17flowers.tgz", entries | (more or {}))
    return folder
