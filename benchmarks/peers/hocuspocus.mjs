// Hocuspocus as its documentation sets it up with SQLite. PORT is told by the environment, FOLDER holds the database.
import { Server } from '@hocuspocus/server'
import { SQLite } from '@hocuspocus/extension-sqlite'

const server = new Server({
  port: Number(process.env.PORT),
  address: '127.0.0.1',
  quiet: true,
  extensions: [new SQLite({ database: `${process.env.FOLDER}/documents.sqlite` })]
})
await server.listen()
process.on('SIGTERM', async () => { await server.destroy(); process.exit(0) })
console.log('listening')
