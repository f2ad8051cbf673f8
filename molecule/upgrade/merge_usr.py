# SPDX-License-Identifier: GPL-3.0-or-later
"""Make /bin, /sbin and /lib links into /usr, as the installers of all VPS have done since Debian 10.

Debian 12 wants this. Its own program for it (usrmerge) refuses to work on the file system of a container.
"""

import os
import shutil

for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
    there, target = "/" + name, "/usr/" + name
    if os.path.isdir(there) and not os.path.islink(there):
        for directory, directories, files in os.walk(there):
            into = target + directory[len(there) :]
            os.makedirs(into, exist_ok=True)
            for file in files + [one for one in directories if os.path.islink(os.path.join(directory, one))]:
                source, new = os.path.join(directory, file), os.path.join(into, file)
                if os.path.islink(new) and os.readlink(new) == source:
                    os.unlink(new)
                if not os.path.lexists(new):
                    shutil.copy2(source, new, follow_symlinks=False)
        shutil.rmtree(there)
        os.symlink("usr/" + name, there)
