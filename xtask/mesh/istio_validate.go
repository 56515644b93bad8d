// Only the `validate` command of istioctl, because building all of istioctl takes several times as long. It is compiled
// as part of Istio's module, because it uses internal packages.
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
