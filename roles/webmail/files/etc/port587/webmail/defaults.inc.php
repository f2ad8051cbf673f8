<?php
// Written by the role port587.mail.webmail: Roundcube reads only one directory with settings, and its package's defaults are in another one.
include '/etc/roundcube/defaults.inc.php';
