<?php
// Written by the role port587.mail.webmail: the package's file is in another directory.
return include '/etc/roundcube/mimetypes.php';
