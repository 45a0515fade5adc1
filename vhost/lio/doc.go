// Package lio creates the SCSI targets that /dev/vhost-scsi serves. It configures LIO, the kernel's
// SCSI target framework, through configfs.
//
// A Config describes the disks of one VM. Create creates a backstore for each disk and a vhost
// target that exports them, and returns a Target with the WWPN for vhost.Scsi.Start. Target.Remove
// removes the target and its backstores. These objects are in the kernel and outlive the process
// that created them. Therefore the process holds a lock on its target's folder, and Recover removes
// targets whose folder is not locked.
//
// Images are passed to the kernel as /proc/self/fd/N, the descriptor that Create opened, checked
// and locked. Thus the kernel opens exactly that file, even if it was renamed. The name may be long
// and may contain characters that configfs would parse, and a wrong name cannot make the kernel
// create a file.
//
// Source: drivers/target/target_core_configfs.c, target_core_fabric_configfs.c, target_core_file.c,
// target_core_iblock.c and drivers/vhost/scsi.c.
//
// The package requires root and the modules target_core_mod, target_core_file or
// target_core_iblock, and vhost_scsi. It loads a module only if its folder is missing, and reports
// that (Target.Notes). It does not mount configfs.
//
// A Target must be used by one goroutine at a time. Several Targets may be created concurrently,
// also by several processes. The caller of Create must call Remove, after the vhost device has
// released the endpoint.
package lio
