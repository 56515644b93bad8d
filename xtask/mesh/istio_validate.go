// The `validate` command of istioctl, alone: the whole of istioctl takes several times as long to build. It is compiled
// inside Istio's own module, where its internal packages are to be had.
package main

import (
	"os"

	"istio.io/istio/istioctl/pkg/cli"
	"istio.io/istio/istioctl/pkg/validate"
)

func main() {
	if err := validate.NewValidateCommand(cli.NewCLIContext(nil)).Execute(); err != nil {
		os.Exit(1)
	}
}
