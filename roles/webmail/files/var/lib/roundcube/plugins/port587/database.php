<?php
// Installed by the role port587.mail.webmail. It makes Roundcube's database, or brings it up to the installed version of Roundcube, whose package
// on some releases lacks the program that does this.
$path = '/var/lib/port587-webmail/roundcube.sqlite';
$schemas = '/usr/share/roundcube/SQL';
if (!file_exists($path)) {
    // under its name only when it is complete
    if (file_exists("$path.new")) {
        unlink("$path.new");
    }
    $database = new PDO("sqlite:$path.new", null, null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    $database->exec(file_get_contents("$schemas/sqlite.initial.sql"));
    $database = null;
    rename("$path.new", $path);
}
define('INSTALL_PATH', '/var/lib/roundcube/');
require_once INSTALL_PATH . 'program/include/clisetup.php';
rcmail_utils::db_update($schemas, 'roundcube', null, ['errors' => true]);
