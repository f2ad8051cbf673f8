<?php
// Written by the role port587.mail.webmail. It tells Dovecot the address of the person's computer, so that wrong logins count where they come
// from and not as the server's own (login_trusted_networks, roles/dovecot).
class port587 extends rcube_plugin
{
    public function init()
    {
        $this->add_hook('storage_init', [$this, 'storage_init']);
    }

    public function storage_init($arguments)
    {
        $address = ['x-originating-ip' => $_SERVER['REMOTE_ADDR'] ?? '127.0.0.1'];
        // Roundcube up to 1.4 sends the first before the login, later ones the second
        foreach (['ident', 'preauth_ident'] as $name) {
            $arguments[$name] = array_merge($arguments[$name] ?? [], $address);
        }
        return $arguments;
    }
}
