#!/bin/sh
# What the fence agents for SNMP call in place of the program that is the first argument: they would
# give it community and passphrases as arguments, which every program on the machine can read. They
# know none and say @; the program finds them in $SNMPCONFPATH/snmp.conf, which only root can read.
program=$1 option=
shift
for word do
  shift
  if [ -n "$option" ]; then
    [ "$word" = @ ] || set -- "$@" "$option" "$word"
    option=
  else
    case $word in
      -c | -A | -X) option=$word ;;
      *) set -- "$@" "$word" ;;
    esac
  fi
done
exec "$program" "$@"
