// Package lio makes the SCSI targets that /dev/vhost-scsi serves: it drives
// LIO, the kernel's SCSI target, through configfs.
//
// A Config describes the disks of one VM; Create makes a backstore for each and
// a vhost target that exports them, and returns a Target with the WWPN for
// vhost.Scsi.Start and a Remove. All of it is in the kernel and survives
// the process that made it. So the process holds a lock on its target's folder,
// and Recover removes the targets that nobody holds.
//
// Images are handed to the kernel as /proc/self/fd/N, the descriptor that Create
// opened, checked and locked: the kernel opens that very file, whatever happens
// to its name, no name is too long or has a character that configfs would take
// apart, and no wrong name makes the kernel create a file.
//
// Source: drivers/target/target_core_configfs.c,
// target_core_fabric_configfs.c, target_core_file.c, target_core_iblock.c and
// drivers/vhost/scsi.c.
//
// Needs root, and the modules target_core_mod, target_core_file or
// target_core_iblock, and vhost_scsi. Loads them only if their folder is
// missing, and says so (Target.Notes). It does not mount configfs.
//
// A Target belongs to one goroutine. Several may be made at once, also by
// several processes. Whoever creates removes, after the vhost device has let
// go of the endpoint.
package lio
