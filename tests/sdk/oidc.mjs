// A real OpenID Connect provider for tests/e2e/jwt.rs: node oidc.mjs PORT NAME.pem...
// Its keys are the private keys in the files, `kid` is their name. Its clients are named `TEAM.USER`, their secret is `secret`;
// they get access tokens (RFC 9068) for the audience `tidegate`, signed with the algorithm that the resource ends with.
import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import Provider from 'oidc-provider'

const [port, ...files] = process.argv.slice(2)
const keys = files.map(file => {
  const jwk = createPrivateKey(readFileSync(file)).export({ format: 'jwk' })
  return { ...jwk, kid: basename(file, '.pem'), use: 'sig', alg: jwk.kty === 'RSA' ? 'RS256' : 'ES256' }
})
const clients = ['search.bot', 'search.mallory', 'search.capped', 'ads.bot', 'nobody.bot'].map(client_id => ({
  client_id,
  client_secret: 'secret',
  client_name: client_id,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: 'client_secret_post',
}))
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients,
  jwks: { keys },
  scopes: ['small', 'large'],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'small large',
        audience: 'tidegate',
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: resource.split(':').pop() } },
      }),
    },
  },
  extraTokenClaims: (_, token) => ({ team: token.clientId.split('.')[0] }),
})
provider.on('server_error', (_, error) => console.error(error))
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'))
