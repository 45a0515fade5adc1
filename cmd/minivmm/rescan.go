package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

const rescanHelp = `Check whether the files or block devices behind a running machine's disks have changed size, resize the
disks and print those that changed. A guest is notified about disks served in process. For disks served
by vhost-scsi the guest must rescan on its own: on Linux, echo 1 > /sys/class/block/sda/device/rescan.`

func newRescanCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rescan NAME",
		Short:   "Resize a running machine's disks to the sizes of their images",
		Long:    rescanHelp,
		Example: "  truncate -s +1G web.img && minivmm rescan web",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			resp, _, err := control.Call(args[0], control.Request{Command: control.CommandRescan})
			if err != nil {
				return err
			}
			for _, d := range resp.Disks {
				status := "the guest was notified"
				if !d.Told {
					status = "rescan in the guest: echo 1 > /sys/class/block/sdX/device/rescan"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s\n", d.ID, config.Size(d.SizeBytes), status)
			}
			return nil
		},
	}
}
