# Written by the role port587.mail.dovecot. Dovecot before 2.3 delivers a mail once for each recipient, even if two of them are one mailbox: a person
# and the person's alias. These copies have the same first Received header, with the number of the LMTP session, and no other mail has it.
require ["duplicate"];
if duplicate :header "Received" :seconds 3600 {
  discard;
  stop;
}
